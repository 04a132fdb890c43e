{{/* Prefix of every object's name: the release's name, followed by the chart's name unless the release's name contains it. */}}
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

{{/* Names of the objects that the controller creates. helm uninstall keeps them. */}}
{{- define "certmint.caSecret" -}}
{{ include "certmint.fullname" . }}-ca
{{- end }}

{{- define "certmint.webhookSecret" -}}
{{ include "certmint.fullname" . }}-webhook-tls
{{- end }}

{{- define "certmint.trustBundle" -}}
{{ include "certmint.fullname" . }}-trust-bundle
{{- end }}

{{- define "certmint.issuingCaRequest" -}}
{{ include "certmint.fullname" . }}-issuing-ca-request
{{- end }}

{{- define "certmint.caRequest" -}}
{{ include "certmint.fullname" . }}-ca-request
{{- end }}

{{- define "certmint.caImport" -}}
{{ include "certmint.fullname" . }}-ca-import
{{- end }}

{{- define "certmint.lastValidPolicy" -}}
{{ include "certmint.fullname" . }}-last-valid-policy
{{- end }}

{{/* Duration in seconds. Takes a string that the schema allows. */}}
{{- define "certmint.seconds" -}}
{{- $units := dict "d" 86400 "h" 3600 "m" 60 "s" 1 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+[dhms]" . -1 -}}
{{- $total = add $total (mul (regexFind "[0-9]+" . | int64) (get $units (regexFind "[dhms]" .))) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* Name of a component's service account. Takes (dict "root" $ "component" name "values" component's values). */}}
{{- define "certmint.serviceAccount" -}}
{{ default (printf "%s-%s" (include "certmint.fullname" .root) .component) .values.serviceAccount.name }}
{{- end }}

{{- define "certmint.controllerAccount" -}}
{{ include "certmint.serviceAccount" (dict "root" . "component" "controller" "values" .Values.controller) }}
{{- end }}

{{/* Selector of a component's pods; it must never change between versions. Takes (dict "root" $ "component" name). */}}
{{- define "certmint.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object. Takes (dict "root" $ "component" name). */}}
{{- define "certmint.labels" -}}
{{ include "certmint.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Image reference; the digest takes precedence over the tag. Takes (dict "root" $ "image" values). */}}
{{- define "certmint.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .root.Chart.AppVersion .image.tag }}{{ end -}}
{{- end }}

{{/* Whether the webhook sets the user of the certmint-fetch container (set) or the cluster does (unset). */}}
{{- define "certmint.fetchRunAsUser" -}}
{{- $openshift := .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- if eq .Values.fetch.runAsUser "auto" }}{{ ternary "unset" "set" $openshift }}{{ else }}{{ .Values.fetch.runAsUser }}{{ end }}
{{- end }}

{{/* Update strategy of a Deployment. Takes (dict "values" component's values). */}}
{{- define "certmint.strategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if .values.hostNetwork }}
  # The pods use ports of their nodes. If every node has a pod, a new pod can start only after an old pod has ended.
  maxSurge: 0
  maxUnavailable: 1
  {{- else }}
  # A new pod is ready before an old pod ends, so that requests are always answered.
  maxSurge: 1
  maxUnavailable: 0
  {{- end }}
{{- end }}

{{/* HTTPS port and metrics port of a component's pods. Both take the component's values. */}}
{{- define "certmint.port" -}}
{{ .port | default 8443 | int }}
{{- end }}

{{- define "certmint.metricsPort" -}}
{{ .metricsPort | default 9402 | int }}
{{- end }}

{{/* IP families in a Service's spec. */}}
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
