{{/* Names and labels. A full name has at most 36 characters, so that every suffix below fits into 63, and the
StatefulSet's and CronJob's names into the 52 that their controllers allow. */}}

{{- define "freehold.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{- define "freehold.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What never changes of a component's pods. Takes root and component. */}}
{{- define "freehold.selector" -}}
app.kubernetes.io/name: {{ include "freehold.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Every object's labels. Takes root and component. */}}
{{- define "freehold.labels" -}}
{{ include "freehold.selector" . }}
app.kubernetes.io/part-of: freehold
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "freehold.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Host of a URL, without its port. */}}
{{- define "freehold.host" -}}
{{- (urlParse .).hostname -}}
{{- end -}}

{{/* Names of the Secrets that hold each group of values: the operator's own, or ours. */}}
{{- define "freehold.secret.keys" -}}
{{- default (printf "%s-keys" (include "freehold.fullname" .)) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "freehold.secret.database" -}}
{{- $name := include "freehold.fullname" . -}}
{{- if .Values.evaluation.postgresql.enabled -}}
{{- printf "%s-postgresql" $name -}}
{{- else -}}
{{- default (printf "%s-database" $name) .Values.database.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "freehold.secret.migrate" -}}
{{- $database := .Values.database -}}
{{- if or .Values.evaluation.postgresql.enabled (not $database.migrate.existingSecret) -}}
{{- if and $database.migrate.url $database.existingSecret (not .Values.evaluation.postgresql.enabled) -}}
{{- printf "%s-database" (include "freehold.fullname" .) -}}
{{- else -}}
{{- include "freehold.secret.database" . -}}
{{- end -}}
{{- else -}}
{{- $database.migrate.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "freehold.secret.redis" -}}
{{- $name := include "freehold.fullname" . -}}
{{- if .Values.evaluation.redis.enabled -}}
{{- printf "%s-redis" $name -}}
{{- else -}}
{{- default (printf "%s-redis-url" $name) .Values.redis.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "freehold.secret.s3" -}}
{{- $s3 := .Values.objectStore.s3 -}}
{{- if $s3.existingSecret -}}
{{- $s3.existingSecret -}}
{{- else if $s3.accessKeyId -}}
{{- printf "%s-s3" (include "freehold.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "freehold.claim.objects" -}}
{{- default (printf "%s-objects" (include "freehold.fullname" .)) .Values.objectStore.volume.existingClaim -}}
{{- end -}}

{{- define "freehold.priorityClass" -}}
{{- default (include "freehold.fullname" .) .Values.priorityClass.name -}}
{{- end -}}

{{/* `<region>.<namespace>`: pods of two regions have the same names, and no two gateways may have the same id. */}}
{{- define "freehold.gateway.prefix" -}}
{{- default (printf "%s.%s" .Values.region .Release.Namespace) .Values.gateway.idPrefix -}}
{{- end -}}

{{/* The pools of workers with their defaults filled in, as JSON: a map by name. */}}
{{- define "freehold.pools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := .Values.workers.pools -}}
{{- if kindIs "map" $pool -}}
{{- $_ := set $pools $name (mergeOverwrite (deepCopy $.Values.workers.defaults) (deepCopy $pool)) -}}
{{- end -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}
