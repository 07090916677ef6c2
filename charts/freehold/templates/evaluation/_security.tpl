{{/* The official images' own user, who is not root either. Takes the database's settings. */}}
{{- define "freehold.evaluation.security" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .userId }}
  runAsGroup: {{ .userId }}
  fsGroup: {{ .userId }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}
