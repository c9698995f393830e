{{/* The release's name for objects: short enough that pods' names stay names of members (64 characters). */}}
{{- define "vared.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) .Values.fullnameOverride -}}
{{- $full | trunc 34 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that never change, of a component: (dict "root" $ "component" "worker"). */}}
{{- define "vared.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "vared.labels" -}}
{{ include "vared.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name and labels of an object. */}}
{{- define "vared.metadata" -}}
name: {{ include "vared.fullname" .root }}-{{ default .component .suffix }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "vared.labels" . | nindent 2 }}
{{- end -}}

{{- define "vared.serviceAccountName" -}}
{{- $account := .Values.serviceAccount -}}
{{- default ($account.create | ternary (include "vared.fullname" .) "default") $account.name -}}
{{- end -}}

{{- define "vared.image" -}}
{{- $image := (index .root.Values .component).image -}}
{{- $repository := $image.repository -}}
{{- with .root.Values.image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $repository $image.digest | quote }}
{{- else -}}
{{ printf "%s:%s" $repository (default .root.Chart.AppVersion .root.Values.image.tag) | quote }}
{{- end -}}
{{- end -}}

{{/* Flags of a `config` block, one a line. `$(` is the kubelet's: doubled, it stays what was written. */}}
{{- define "vared.flags" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "slice" $value) }}{{ $value = list $value }}{{ end }}
{{- range $value }}
{{- if and (not (kindIs "invalid" .)) (ne (toString .) "") }}
{{- $text := kindIs "float64" . | ternary (int64 .) . }}
- {{ printf "--%s=%v" (replace "_" "-" $key) $text | replace "$(" "$$(" | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A time like 10s, 500ms or 2m, times a number, in whole seconds. */}}
{{- define "vared.seconds" -}}
{{- $number := regexFind "^[0-9.]+" .time | float64 -}}
{{- $unit := regexFind "[a-z]+$" .time -}}
{{- $scale := get (dict "ms" 0.001 "s" 1.0 "" 1.0 "m" 60.0 "min" 60.0) $unit -}}
{{- mulf $number $scale .times | ceil | int64 -}}
{{- end -}}

{{/* A drain may take six times the patience (one step and one checkpoint), the end of the process one more. */}}
{{- define "vared.gracePeriod" -}}
{{- $own := (index .root.Values .component).terminationGracePeriodSeconds -}}
{{- $derived := include "vared.seconds" (dict "time" .root.Values.coordinator.config.patience "times" 7.0) | int64 -}}
{{- kindIs "invalid" $own | ternary (max 30 (add 10 $derived)) $own | int64 -}}
{{- end -}}

{{- define "vared.coordinatorUrl" -}}
http://{{ include "vared.fullname" . }}-coordinator:{{ int .Values.coordinator.port }}
{{- end -}}

{{/* Port of the store, for the network policies. */}}
{{- define "vared.storePort" -}}
{{- $given := regexFind ":[0-9]+$" (trimSuffix "/" .Values.store.endpoint) | trimPrefix ":" -}}
{{- default (hasPrefix "http://" .Values.store.endpoint | ternary "80" "443") $given -}}
{{- end -}}
