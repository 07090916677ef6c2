{{/* Ingress and HTTPRoute, the same for web and gateway. Take root, component, name, host, settings. */}}

{{- define "freehold.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .name }}
  labels:
    {{- include "freehold.labels" . | nindent 4 }}
  {{- with .settings.ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .settings.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .settings.ingress.tlsSecretName }}
  tls:
    - secretName: {{ . }}
      hosts:
        - {{ $.host }}
  {{- end }}
  rules:
    - host: {{ .host }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ .name }}
                port:
                  name: http
{{- end -}}

{{- define "freehold.httpRoute" -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ .name }}
  labels:
    {{- include "freehold.labels" . | nindent 4 }}
  {{- with .settings.httpRoute.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  parentRefs:
    {{- toYaml .settings.httpRoute.parentRefs | nindent 4 }}
  hostnames:
    - {{ .host }}
  rules:
    - matches:
        - path:
            type: PathPrefix
            value: /
      # Streams and uploads take as long as they take; both ends have deadlines of their own.
      timeouts:
        request: 0s
        backendRequest: 0s
      backendRefs:
        - name: {{ .name }}
          port: {{ .settings.service.port }}
{{- end -}}
