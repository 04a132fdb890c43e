{{/* Pieces that the pods of both components have. All take (dict "root" $ "component" name "values" component's values). */}}

{{- define "certmint.podMetadata" -}}
labels:
  {{- include "certmint.selectorLabels" . | nindent 2 }}
  {{- /* Of a key that is given twice, the pods' own counts. */}}
  {{- with merge (dict) .values.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- merge (dict) .values.podAnnotations (dict "kubectl.kubernetes.io/default-container" .component) | toYaml | nindent 2 }}
{{- end }}

{{/* What a pod begins with. */}}
{{- define "certmint.podHead" -}}
serviceAccountName: {{ include "certmint.serviceAccount" . }}
# The controller speaks to the API server, the webhook never does; what the account says does not matter.
automountServiceAccountToken: {{ eq .component "controller" }}
enableServiceLinks: false
{{- if .values.hostNetwork }}
hostNetwork: true
# Otherwise kubelet would give it the node's name servers, which do not know the names of Services.
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: 30
{{- include "certmint.scheduling" . }}
{{- end }}

{{/* What a container ends with, before its volume mounts. */}}
{{- define "certmint.containerTail" -}}
ports:
  - name: https
    containerPort: {{ include "certmint.port" .values }}
  - name: metrics
    containerPort: {{ include "certmint.metricsPort" .values }}
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  {{- with .values.readinessProbe }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  {{- with .values.livenessProbe }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
lifecycle:
  # Every node's kube-proxy needs a moment to stop sending connections here; SIGTERM comes after that.
  preStop:
    sleep:
      seconds: 5
resources:
  {{- toYaml .values.resources | nindent 2 }}
securityContext:
  {{- toYaml .values.securityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* Where a component's pods may and should run. */}}
{{- define "certmint.scheduling" -}}
{{- $selector := fromYaml (include "certmint.selectorLabels" .) -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- with .values.affinity }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    # Preferred only: a single node must be able to run everything.
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- toYaml $selector | nindent 14 }}
  {{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- toYaml (hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" (dict "matchLabels" $selector))) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A component's whole service account. */}}
{{- define "certmint.serviceAccountObject" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "certmint.serviceAccount" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "certmint.labels" . | nindent 4 }}
  {{- with .values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: {{ .values.serviceAccount.automount }}
{{- end }}

{{/* A component's whole PodDisruptionBudget. */}}
{{- define "certmint.podDisruptionBudget" -}}
{{- $budget := .values.podDisruptionBudget -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "certmint.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "certmint.labels" . | nindent 4 }}
spec:
  {{- if ne (toString $budget.minAvailable) "" }}
  minAvailable: {{ $budget.minAvailable }}
  {{- else }}
  # Counted down from the replicas, not up to a minimum: a single replica must not hold up a node's drain.
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  # A pod that cannot become ready protects nobody.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "certmint.selectorLabels" . | nindent 6 }}
{{- end }}
