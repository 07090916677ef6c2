{{/* The Job that replays one journal: a gateway that serves nobody. `__CLAIM__` and `__ORDINAL__` are filled in by
workers.replay_journals. */}}
{{- define "freehold.replayJob" -}}
{{- $name := include "freehold.fullname" .root -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}-replay-__ORDINAL__
  labels:
    {{- include "freehold.labels" . | nindent 4 }}
spec:
  backoffLimit: 3
  ttlSecondsAfterFinished: 3600
  template:
    metadata:
      {{- include "freehold.podMetadata" . | nindent 6 }}
    spec:
      {{- include "freehold.podFields" . | nindent 6 }}
      restartPolicy: Never
      terminationGracePeriodSeconds: 30
      containers:
        - name: replay
          {{- include "freehold.containerImage" . | nindent 10 }}
          command: [python, -m, freehold.gateway.replay]
          envFrom:
            - configMapRef:
                name: {{ $name }}-gateway
          env:
            {{- include "freehold.env.gateway" (dict "root" .root "id" (printf "%s.%s-gateway-__ORDINAL__" (include "freehold.gateway.prefix" .root) $name)) | nindent 12 }}
            {{- with include "freehold.env.extra" . }}
            {{- . | nindent 12 }}
            {{- end }}
          resources:
            {{- toYaml .root.Values.gateway.replay.resources | nindent 12 }}
          volumeMounts:
            - name: journal
              mountPath: /var/lib/freehold
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: journal
          persistentVolumeClaim:
            claimName: __CLAIM__
        - name: tmp
          emptyDir:
            sizeLimit: {{ .root.Values.pods.tmpSize }}
{{- end -}}
