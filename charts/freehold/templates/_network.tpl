{{/* Parts of NetworkPolicies. */}}

{{/* Any address but the blocked ones. */}}
{{- define "freehold.network.outside" -}}
{{- $blocked := dict "0.0.0.0/0" list "::/0" list -}}
{{- range .Values.networkPolicy.blockedCidrs -}}
{{- $all := ternary "::/0" "0.0.0.0/0" (contains ":" .) -}}
{{- $_ := set $blocked $all (append (get $blocked $all) .) -}}
{{- end -}}
{{- range $all, $except := $blocked }}
- ipBlock:
    cidr: {{ $all }}
    {{- with $except }}
    except:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "freehold.network.ports" -}}
ports:
  {{- range .ports }}
  - port: {{ . }}
    protocol: {{ $.protocol | default "TCP" }}
  {{- end }}
{{- end -}}

{{/* Pods of ours. Takes root and components. */}}
{{- define "freehold.network.pods" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "freehold.name" .root }}
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - key: app.kubernetes.io/component
        operator: In
        values:
          {{- toYaml .components | nindent 10 }}
{{- end -}}

{{/* One egress rule. Takes root and target, a key of networkPolicy. */}}
{{- define "freehold.network.to" -}}
{{- $policy := get .root.Values.networkPolicy .target -}}
{{- $evaluation := get .root.Values.evaluation (get (dict "database" "postgresql" "redis" "redis") .target) -}}
- to:
    {{- if and $evaluation $evaluation.enabled }}
    {{- include "freehold.network.pods" (dict "root" .root "components" (list (ternary "postgresql" "redis" (eq .target "database")))) | nindent 4 }}
    {{- else if $policy.peers }}
    {{- toYaml $policy.peers | nindent 4 }}
    {{- else }}
    {{- include "freehold.network.outside" .root | trim | nindent 4 }}
    {{- if ne .target "imports" }}
    - namespaceSelector: {}
    {{- end }}
    {{- end }}
  {{- include "freehold.network.ports" $policy | nindent 2 }}
{{- end -}}
