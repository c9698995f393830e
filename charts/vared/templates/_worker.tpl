{{/* The worker's pod, for all three kinds of workload. */}}
{{- define "vared.workerPod" -}}
{{- $it := dict "root" . "component" "worker" -}}
{{- $worker := .Values.worker -}}
{{- $isJob := ne $worker.kind "StatefulSet" -}}
metadata: {{- include "vared.podMetadata" $it | nindent 2 }}
spec:
  {{- include "vared.podCommon" $it | nindent 2 }}
  {{- if $isJob }}
  restartPolicy: Never
  {{- end }}
  {{- with $worker.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- $tolerations := $worker.tolerations }}
  {{- if $worker.gpu.count }}
  {{- $tolerations = prepend $tolerations (dict "key" $worker.gpu.resource "operator" "Exists" "effect" "NoSchedule") }}
  {{- end }}
  {{- with $tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
    # Peers listen at ports that the kernel picks: this makes the range that the network policy allows the whole one.
    sysctls:
      - name: net.ipv4.ip_local_port_range
        value: {{ printf "%d %d" (int $worker.peerPorts.first) (int $worker.peerPorts.last) | quote }}
  containers:
    - {{- include "vared.container" $it | nindent 6 }}
      {{- if $isJob }}
      # A worker that leaves in good order ends with 0, which a Job would take for a finished index.
      command:
        - /bin/sh
        - -c
        - |
          trap 'left=1; kill -TERM "$pid"' TERM
          "$@" & pid=$!
          wait "$pid"; code=$?
          if [ -n "$left" ]; then wait "$pid"; code=$?; [ "$code" = 0 ] && code=75; fi
          exit "$code"
        - sh
        - worker
      {{- else }}
      command: [worker]
      {{- end }}
      args:
        - run
        - --coordinator={{ include "vared.coordinatorUrl" . }}
        - --name={{ $isJob | ternary "worker-$(WORKER_INDEX)" "$(POD_NAME)" }}
        {{- include "vared.flags" $worker.config | trim | nindent 8 }}
        {{- with $worker.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- if $isJob }}
        - name: WORKER_INDEX
          valueFrom:
            fieldRef:
              fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
        {{- else }}
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        {{- include "vared.env" $it | nindent 8 }}
      {{- $resources := deepCopy $worker.resources }}
      {{- if $worker.gpu.count }}
      {{- $gpu := dict $worker.gpu.resource (int $worker.gpu.count) }}
      {{- $_ := set $resources "limits" (merge $gpu (default dict $resources.limits)) }}
      {{- $_ := set $resources "requests" (merge $gpu (default dict $resources.requests)) }}
      {{- end }}
      resources: {{- toYaml $resources | nindent 8 }}
      {{- /* It serves nothing: it has joined while its connection to the coordinator stands. A worker that loses it ends
             by itself after the patience; liveness is for one that can't even do that. */}}
      {{- $joined := printf "grep -qs ':%04X 01 ' /proc/net/tcp /proc/net/tcp6" (int .Values.coordinator.port) }}
      {{- $budget := include "vared.seconds" (dict "time" .Values.coordinator.config.patience "times" 6.0) | int }}
      startupProbe:
        exec: {command: [/bin/sh, -c, {{ $joined | quote }}]}
        periodSeconds: 5
        # A first start waits for the coordinator; each try ends by itself after three times the patience.
        failureThreshold: {{ max 24 (div $budget 5) }}
      readinessProbe:
        exec: {command: [/bin/sh, -c, {{ $joined | quote }}]}
        periodSeconds: 10
      livenessProbe:
        exec: {command: [/bin/sh, -c, {{ $joined | quote }}]}
        periodSeconds: 10
        failureThreshold: {{ max 6 (div $budget 10) }}
      volumeMounts:
        - name: shm
          mountPath: /dev/shm
        {{- include "vared.mounts" $it | nindent 8 }}
  volumes:
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ $worker.shm.sizeLimit }}
    {{- include "vared.volumes" $it | nindent 4 }}
{{- end -}}

{{/* An Indexed Job's spec, alone or in a JobSet. */}}
{{- define "vared.workerJob" -}}
completionMode: Indexed
completions: {{ .Values.worker.replicas }}
parallelism: {{ .Values.worker.replicas }}
# Nodes come and go for weeks: only a wrong configuration ends the job.
backoffLimit: 2147483647
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        containerName: worker
        operator: In
        values: [78]
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template: {{- include "vared.workerPod" . | nindent 2 }}
{{- end -}}
