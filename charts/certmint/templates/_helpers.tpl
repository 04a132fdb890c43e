{{/* The prefix of every object's name: the release's name, and the chart's unless that says it already. */}}
{{- define "certmint.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What the controller makes, and keeps when the chart is uninstalled. */}}
{{- define "certmint.caSecret" -}}
{{ include "certmint.fullname" . }}-ca
{{- end }}

{{- define "certmint.webhookSecret" -}}
{{ include "certmint.fullname" . }}-webhook-tls
{{- end }}

{{- define "certmint.trustBundle" -}}
{{ include "certmint.fullname" . }}-trust-bundle
{{- end }}

{{- define "certmint.lastValidPolicy" -}}
{{ include "certmint.fullname" . }}-last-valid-policy
{{- end }}

{{/* A duration in seconds. Takes a text that the schema admits. */}}
{{- define "certmint.seconds" -}}
{{- $units := dict "d" 86400 "h" 3600 "m" 60 "s" 1 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+[dhms]" . -1 -}}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int64) (get $units (regexFind "[dhms]" .))) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* The name of a component's service account. Takes (dict "root" $ "component" name "values" component's values). */}}
{{- define "certmint.serviceAccount" -}}
{{ default (printf "%s-%s" (include "certmint.fullname" .root) .component) .values.serviceAccount.name }}
{{- end }}

{{- define "certmint.controllerAccount" -}}
{{ include "certmint.serviceAccount" (dict "root" . "component" "controller" "values" .Values.controller) }}
{{- end }}

{{/* What a component's pods are selected by; it can never change between versions. Takes (dict "root" $ "component" name). */}}
{{- define "certmint.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of every object. Takes (dict "root" $ "component" name). */}}
{{- define "certmint.labels" -}}
{{ include "certmint.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image's reference; a digest wins over the tag. Takes (dict "root" $ "image" values). */}}
{{- define "certmint.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .root.Chart.AppVersion .image.tag }}{{ end -}}
{{- end }}

{{/* Whether the injected container's user is set, or left to the platform. */}}
{{- define "certmint.fetchRunAsUser" -}}
{{- $openshift := .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- if eq .Values.fetch.runAsUser "auto" }}{{ ternary "unset" "set" $openshift }}{{ else }}{{ .Values.fetch.runAsUser }}{{ end }}
{{- end }}

{{/* How a Deployment rolls. Takes (dict "values" component's values). */}}
{{- define "certmint.strategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if .values.hostNetwork }}
  # Its ports are the node's: where each node has a pod, a new one can start only after an old one has gone.
  maxSurge: 0
  maxUnavailable: 1
  {{- else }}
  # A new pod is ready before an old one goes, so that there is always someone to answer.
  maxSurge: 1
  maxUnavailable: 0
  {{- end }}
{{- end }}

{{/* The ports of a component's pods. Both take its values. */}}
{{- define "certmint.port" -}}
{{ .port | default 8443 | int }}
{{- end }}

{{- define "certmint.metricsPort" -}}
{{ .metricsPort | default 9402 | int }}
{{- end }}

{{/* The part of a Service's spec that tells the families of its addresses. */}}
{{- define "certmint.ipFamilies" -}}
{{- with .Values.service }}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "certmint.logArgs" -}}
- --log-level={{ .Values.logLevel }}
- --log-format={{ .Values.logFormat }}
{{- end }}
