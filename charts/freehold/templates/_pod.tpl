{{/* What all pods have: the restricted Pod Security Standard, no service-account token unless asked for, and places. */}}

{{- define "freehold.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "freehold.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Labels and annotations of a pod. Takes root, component, settings, and optionally labels and config (a template whose
change replaces the pods). */}}
{{- define "freehold.podMetadata" -}}
labels:
  {{- include "freehold.selector" . | nindent 2 }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with mergeOverwrite (deepCopy .root.Values.pods.labels) (.settings.podLabels | default dict) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := mergeOverwrite (deepCopy .root.Values.pods.annotations) (.settings.podAnnotations | default dict) -}}
{{- if .config -}}
{{- $_ := set $annotations "checksum/config" ((include (print .root.Template.BasePath .config) .root | fromYaml).data | toJson | sha256sum) -}}
{{- $_ := set $annotations "checksum/secrets" (include "freehold.givenSecrets" . | sha256sum) -}}
{{- end -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Secrets that are written in the values. Generated ones never change, and those of others we cannot see. Takes root and
component. */}}
{{- define "freehold.givenSecrets" -}}
{{- $values := .root.Values -}}
{{- if eq .component "gateway" -}}
{{- toJson $values.redis -}}
{{- else -}}
{{- list $values.secrets $values.database $values.redis $values.objectStore.s3 | toJson -}}
{{- end -}}
{{- end -}}

{{/* The pod's fields besides its containers and volumes. Takes root, component, settings, account and automount. */}}
{{- define "freehold.podFields" -}}
{{- $pods := .root.Values.pods -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .automount | default false }}
enableServiceLinks: false
securityContext:
  {{- include "freehold.podSecurity" . | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with mergeOverwrite (deepCopy $pods.nodeSelector) (.settings.nodeSelector | default dict) }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $pods.tolerations .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .settings.affinity }}
affinity:
  {{- toYaml .settings.affinity | nindent 2 }}
{{- else if and .spread (ne $pods.antiAffinity "none") }}
affinity:
  podAntiAffinity:
    {{- if eq $pods.antiAffinity "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "freehold.selector" . | nindent 12 }}
            {{- with .labels }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "freehold.selector" . | nindent 14 }}
              {{- with .labels }}
              {{- toYaml . | nindent 14 }}
              {{- end }}
    {{- end }}
{{- end }}
{{- if and .spread $pods.topologySpread }}
topologySpreadConstraints:
  {{- range $pods.topologySpread }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "freehold.selector" $ | nindent 8 }}
        {{- with $.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- end }}
{{- end }}
{{- $class := default $pods.priorityClassName .settings.priorityClassName }}
{{- if or $class .root.Values.priorityClass.create }}
priorityClassName: {{ default (include "freehold.priorityClass" .root) $class }}
{{- end }}
{{- end -}}

{{/* Start of every container of the platform's image. Takes root. */}}
{{- define "freehold.containerImage" -}}
image: {{ include "freehold.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- include "freehold.containerSecurity" . | nindent 2 }}
{{- end -}}

{{- define "freehold.controlEnv" -}}
envFrom:
  - configMapRef:
      name: {{ include "freehold.fullname" .root }}-config
env:
  {{- include "freehold.env.control" .root | nindent 2 }}
  {{- if .weights }}
  {{- with include "freehold.env.s3" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- if .touches }}
  - name: FREEHOLD_LIVENESS_FILE
    value: /tmp/alive
  {{- end }}
  {{- with include "freehold.env.extra" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Waits until the schema is what this image's code expects. Takes root and settings. */}}
{{- define "freehold.waitForSchema" -}}
- name: wait-for-schema
  {{- include "freehold.containerImage" . | nindent 2 }}
  command: [python, /app/manage.py, migrations_wait, --timeout, {{ .root.Values.migrations.waitSeconds | quote }}]
  {{- include "freehold.controlEnv" (dict "root" .root "settings" .settings) | nindent 2 }}
  resources:
    requests: {cpu: 10m, memory: 128Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    {{- include "freehold.mounts" (dict "root" .root) | nindent 4 }}
{{- end -}}

{{/* Mounts of a control plane container. Takes root and weights. */}}
{{- define "freehold.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .root.Values.database.ca.existingSecret }}
- name: database-ca
  mountPath: /etc/freehold/database-ca
  readOnly: true
{{- end }}
{{- if and .weights .root.Values.objectStore.volume.enabled }}
- name: objects
  mountPath: /var/lib/freehold/objects
{{- end }}
{{- end -}}

{{/* Volumes behind them. Takes root, weights and tmpSize. */}}
{{- define "freehold.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ default .root.Values.pods.tmpSize .tmpSize }}
{{- with .root.Values.database.ca }}
{{- if .existingSecret }}
- name: database-ca
  secret:
    secretName: {{ .existingSecret }}
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- if and .weights .root.Values.objectStore.volume.enabled }}
- name: objects
  persistentVolumeClaim:
    claimName: {{ include "freehold.claim.objects" .root }}
{{- end }}
{{- end -}}

{{/* Probes of a process without HTTP, by the file that it touches while it works (docs/operations.md). Takes seconds. */}}
{{- define "freehold.liveness" -}}
{{- if . -}}
{{- $look := dict "exec" (dict "command" (list "python" "-m" "freehold.common.liveness" (toString .))) "timeoutSeconds" 10 -}}
startupProbe:
  {{- toYaml $look | nindent 2 }}
  periodSeconds: 5
  failureThreshold: {{ max 12 (div . 5) }}
livenessProbe:
  {{- toYaml $look | nindent 2 }}
  periodSeconds: 30
  failureThreshold: 2
{{- end -}}
{{- end -}}
