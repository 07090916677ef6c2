{{/* What the schema cannot say: values that depend on each other. All problems are told at once. */}}

{{- define "freehold.problems" -}}
{{- $v := .Values -}}
{{- $control := $v.controlPlane.enabled -}}
{{- $data := $v.dataPlane.enabled -}}
{{- $problems := list -}}

{{- if not (or $control $data) -}}
{{- $problems = append $problems "Nothing would be installed: set controlPlane.enabled, dataPlane.enabled or both." -}}
{{- end -}}
{{- if not $v.image.repository -}}
{{- $problems = append $problems "image.repository is missing: say where the platform's image lies (docker build, docker push)." -}}
{{- end -}}
{{- if eq $v.image.tag "latest" -}}
{{- $problems = append $problems "image.tag is 'latest', which means another image every day: give a version, or image.digest." -}}
{{- end -}}
{{- if and $control (not $v.publicUrl) -}}
{{- $problems = append $problems "publicUrl is missing: the address of console, API and hub as customers see it, for example https://freehold.example.com." -}}
{{- end -}}
{{- if and $control (not $v.gatewayUrl) -}}
{{- $problems = append $problems "gatewayUrl is missing: the address of the gateway as applications see it, for example https://api.freehold.example.com." -}}
{{- end -}}
{{- if and $control $v.publicUrl (eq $v.publicUrl $v.gatewayUrl) -}}
{{- $problems = append $problems "publicUrl and gatewayUrl are the same: console and gateway are two services and need a host name each." -}}
{{- end -}}

{{- $database := $v.database -}}
{{- if $control -}}
{{- if $v.evaluation.postgresql.enabled -}}
{{- if or $database.url $database.existingSecret $database.migrate.url $database.migrate.existingSecret -}}
{{- $problems = append $problems "evaluation.postgresql.enabled and database.* exclude each other: choose the database of this chart or your own." -}}
{{- end -}}
{{- else -}}
{{- if not (or $database.url $database.existingSecret) -}}
{{- $problems = append $problems "No database: set database.existingSecret (or database.url), or, only to try Freehold out, evaluation.postgresql.enabled." -}}
{{- end -}}
{{- if and $v.migrations.enabled (not (or $database.migrate.url $database.migrate.existingSecret $database.existingSecret)) -}}
{{- $problems = append $problems "No way to migrate: set database.migrate.existingSecret (or database.migrate.url) to the URL of the tables' owner, or migrations.enabled=false if you migrate yourself." -}}
{{- end -}}
{{- end -}}
{{- if and $database.url $database.existingSecret -}}
{{- $problems = append $problems "database.url and database.existingSecret exclude each other." -}}
{{- end -}}
{{- if and (hasPrefix "verify-" $database.sslMode) (not $database.ca.existingSecret) -}}
{{- $problems = append $problems (printf "database.sslMode=%s needs database.ca.existingSecret: the certificate authority to verify with." $database.sslMode) -}}
{{- end -}}
{{- if and $v.secrets.existingSecret (or $v.secrets.secretKey $v.secrets.encryptionKeys) -}}
{{- $problems = append $problems "secrets.existingSecret and secrets.secretKey or secrets.encryptionKeys exclude each other." -}}
{{- end -}}
{{- end -}}

{{/* Secrets are looked at here and not in the schema, whose messages would show them. */}}
{{- if $control -}}
{{- range $where, $url := dict "database.url" $database.url "database.migrate.url" $database.migrate.url -}}
{{- if and $url (not (regexMatch "^postgres(ql)?://[^@/]+@[^/]+/.+$" $url)) -}}
{{- $problems = append $problems (printf "%s must be postgresql://user:password@host:port/name." $where) -}}
{{- end -}}
{{- end -}}
{{- if and $v.secrets.secretKey (lt (len $v.secrets.secretKey) 50) -}}
{{- $problems = append $problems "secrets.secretKey is shorter than 50 characters." -}}
{{- end -}}
{{- range $position, $key := $v.secrets.encryptionKeys -}}
{{- if not (regexMatch "^[A-Za-z0-9_-]{43}=$" $key) -}}
{{- $problems = append $problems (printf "secrets.encryptionKeys[%d] is no Fernet key: 32 bytes in URL-safe base64." $position) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.redis.url (not (regexMatch "^rediss?://.+$" $v.redis.url)) -}}
{{- $problems = append $problems "redis.url must be redis://:password@host:port/0, or rediss:// for TLS." -}}
{{- end -}}

{{- $redis := $v.redis -}}
{{- if $v.evaluation.redis.enabled -}}
{{- if or $redis.url $redis.existingSecret -}}
{{- $problems = append $problems "evaluation.redis.enabled and redis.* exclude each other: choose the Redis of this chart or your own." -}}
{{- end -}}
{{- if not $control -}}
{{- $problems = append $problems "evaluation.redis.enabled is no use without a control plane: the gateway must share the control plane's Redis; set redis.existingSecret." -}}
{{- end -}}
{{- else if not (or $redis.url $redis.existingSecret) -}}
{{- $problems = append $problems "No Redis: set redis.existingSecret (or redis.url), or, only to try Freehold out, evaluation.redis.enabled." -}}
{{- else if and $redis.url $redis.existingSecret -}}
{{- $problems = append $problems "redis.url and redis.existingSecret exclude each other." -}}
{{- end -}}

{{- $store := $v.objectStore -}}
{{- if $control -}}
{{- if not (or $store.s3.bucket $store.volume.enabled) -}}
{{- $problems = append $problems "No object store: set objectStore.s3.bucket, or, only to try Freehold out, objectStore.volume.enabled." -}}
{{- end -}}
{{- if and $store.s3.bucket $store.volume.enabled -}}
{{- $problems = append $problems "objectStore.s3.bucket and objectStore.volume.enabled exclude each other." -}}
{{- end -}}
{{- if and $store.s3.existingSecret $store.s3.accessKeyId -}}
{{- $problems = append $problems "objectStore.s3.existingSecret and objectStore.s3.accessKeyId exclude each other." -}}
{{- end -}}
{{- if and (not $store.s3.existingSecret) (ne (empty $store.s3.accessKeyId) (empty $store.s3.secretAccessKey)) -}}
{{- $problems = append $problems "objectStore.s3.accessKeyId and objectStore.s3.secretAccessKey go together: set both, or neither where the cluster's own identity is used." -}}
{{- end -}}
{{- $consumed := list -}}
{{- range $name, $pool := include "freehold.pools" . | fromJson -}}
{{- if not $pool.queues -}}
{{- $problems = append $problems (printf "workers.pools.%s.queues is empty: name at least one queue." $name) -}}
{{- end -}}
{{- $consumed = concat $consumed $pool.queues -}}
{{- end -}}
{{- range list "default" "transfers" -}}
{{- if not (has . $consumed) -}}
{{- $problems = append $problems (printf "No pool in workers.pools consumes the queue %q: its work would wait for ever." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and $data (not $v.gatewayUrl) (or $v.gateway.ingress.enabled $v.gateway.httpRoute.enabled) -}}
{{- $problems = append $problems "gatewayUrl is missing: gateway.ingress and gateway.httpRoute take the host from it." -}}
{{- end -}}
{{- range $name := list "web" "gateway" -}}
{{- $part := get $v $name -}}
{{- if and $part.ingress.enabled $part.httpRoute.enabled -}}
{{- $problems = append $problems (printf "%s.ingress.enabled and %s.httpRoute.enabled exclude each other." $name $name) -}}
{{- end -}}
{{- if and $part.httpRoute.enabled (not $part.httpRoute.parentRefs) -}}
{{- $problems = append $problems (printf "%s.httpRoute.parentRefs is empty: name the Gateway that the route belongs to." $name) -}}
{{- end -}}
{{- if and $part.autoscaling.enabled (gt (int $part.autoscaling.minReplicas) (int $part.autoscaling.maxReplicas)) -}}
{{- $problems = append $problems (printf "%s.autoscaling.minReplicas is greater than maxReplicas." $name) -}}
{{- end -}}
{{- end -}}
{{- if and (not $data) (or $v.gateway.ingress.enabled $v.gateway.httpRoute.enabled) -}}
{{- $problems = append $problems "gateway.ingress or gateway.httpRoute is enabled, but dataPlane.enabled is false." -}}
{{- end -}}
{{- if and (not $control) (or $v.web.ingress.enabled $v.web.httpRoute.enabled) -}}
{{- $problems = append $problems "web.ingress or web.httpRoute is enabled, but controlPlane.enabled is false." -}}
{{- end -}}
{{- if and $v.rbac.inCluster $v.rbac.create $v.rbac.confine $control (not $v.rbac.namespacePrefix) -}}
{{- $problems = append $problems "rbac.namespacePrefix is empty: rbac.confine holds workers to namespaces with that prefix." -}}
{{- end -}}
{{- range $problems }}
- {{ . }}
{{- end -}}
{{- end -}}
