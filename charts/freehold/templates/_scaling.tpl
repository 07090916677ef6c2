{{/* HorizontalPodAutoscaler and PodDisruptionBudget, the same for all. Take root, component, name, kind, settings, labels. */}}

{{/* How many. An autoscaler's number is the one that is there: left out, Kubernetes would make it one when autoscaling is
switched on, until the autoscaler has looked. Takes root, kind, name and settings. */}}
{{- define "freehold.replicas" -}}
{{- if not .settings.autoscaling.enabled -}}
replicas: {{ .settings.replicas }}
{{- else -}}
{{- with (lookup "apps/v1" .kind .root.Release.Namespace .name).spec -}}
replicas: {{ int .replicas }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "freehold.autoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  labels:
    {{- include "freehold.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ .name }}
  minReplicas: {{ .settings.autoscaling.minReplicas }}
  maxReplicas: {{ .settings.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .settings.autoscaling.targetCPUUtilizationPercentage }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 600
      policies:
        - type: Pods
          value: 1
          periodSeconds: 120
{{- end -}}

{{- define "freehold.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels:
    {{- include "freehold.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "freehold.selector" . | nindent 6 }}
      {{- with .labels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}
