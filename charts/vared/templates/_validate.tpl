{{/* What a schema can't say: values that must fit each other. Each refusal names its key. */}}
{{- define "vared.validate" -}}
{{- $config := .Values.coordinator.config -}}
{{- $replicas := int .Values.worker.replicas -}}
{{- $workers := int (default $replicas $config.workers) -}}
{{- if not $config.store -}}
{{- fail "coordinator.config.store is empty: give the place of data, checkpoints and the run's record, as s3://BUCKET/PREFIX" -}}
{{- end -}}
{{- if and .Values.recipe $config.recipe -}}
{{- fail (printf "recipe and coordinator.config.recipe (%s) are both set: give one, a text or a name" $config.recipe) -}}
{{- end -}}
{{- if gt $workers $replicas -}}
{{- fail (printf "coordinator.config.workers is %d, but worker.replicas is %d: the run would wait for ever; raise worker.replicas" $workers $replicas) -}}
{{- end -}}
{{- if gt (int (default $workers $config.min_workers)) $workers -}}
{{- fail (printf "coordinator.config.min_workers is %d; it must be at most coordinator.config.workers (%d)" (int $config.min_workers) $workers) -}}
{{- end -}}
{{- if and .Values.store.credentials.secretName .Values.store.webIdentity.roleArn -}}
{{- fail "store.credentials.secretName and store.webIdentity.roleArn are both set: give keys or an identity" -}}
{{- end -}}
{{- if le (int .Values.worker.peerPorts.last) (int .Values.worker.peerPorts.first) -}}
{{- fail (printf "worker.peerPorts.last is %d; it must be above worker.peerPorts.first (%d)" (int .Values.worker.peerPorts.last) (int .Values.worker.peerPorts.first)) -}}
{{- end -}}
{{- with .Values.loader.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "loader.autoscaling.minReplicas is %d; it must be at most loader.autoscaling.maxReplicas (%d)" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
