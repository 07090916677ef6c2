{{/* Environments. Each variable is described in docs/configuration.md. */}}

{{- define "freehold.env.secret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{/* The secrets of every process of the control plane. */}}
{{- define "freehold.env.control" -}}
{{- $keys := include "freehold.secret.keys" . -}}
{{ include "freehold.env.secret" (dict "name" "SECRET_KEY" "secret" $keys "key" .Values.secrets.secretKeyKey) }}
{{ include "freehold.env.secret" (dict "name" "FREEHOLD_ENCRYPTION_KEYS" "secret" $keys "key" .Values.secrets.encryptionKeysKey) }}
{{ include "freehold.env.secret" (dict "name" "DATABASE_URL" "secret" (include "freehold.secret.database" .) "key" .Values.database.urlKey) }}
{{ include "freehold.env.redis" . }}
{{- end -}}

{{- define "freehold.env.redis" -}}
{{ include "freehold.env.secret" (dict "name" "REDIS_URL" "secret" (include "freehold.secret.redis" .) "key" .Values.redis.urlKey) }}
{{- end -}}

{{/* Of those who move weights: web and workers. */}}
{{- define "freehold.env.s3" -}}
{{- with include "freehold.secret.s3" . -}}
{{ include "freehold.env.secret" (dict "name" "S3_ACCESS_KEY_ID" "secret" . "key" $.Values.objectStore.s3.accessKeyIdKey) }}
{{ include "freehold.env.secret" (dict "name" "S3_SECRET_ACCESS_KEY" "secret" . "key" $.Values.objectStore.s3.secretAccessKeyKey) }}
{{- end -}}
{{- end -}}

{{/* Of the gateway and of whoever replays its journal. Takes root and id. */}}
{{- define "freehold.env.gateway" -}}
{{ include "freehold.env.redis" .root }}
- name: GATEWAY_ID
  value: {{ .id | quote }}
{{- end -}}

{{/* extraEnv of all pods and of one component. Takes root and settings. */}}
{{- define "freehold.env.extra" -}}
{{- with concat .root.Values.pods.extraEnv (.settings.extraEnv | default list) -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}
