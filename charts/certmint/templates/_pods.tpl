{{/* Parts that the pods of both components share. All take (dict "root" $ "component" name "values" component's values). */}}

{{- define "certmint.podMetadata" -}}
labels:
  {{- include "certmint.selectorLabels" . | nindent 2 }}
  {{- /* podLabels take precedence over commonLabels. */}}
  {{- with merge (dict) .values.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- merge (dict) .values.podAnnotations (dict "kubectl.kubernetes.io/default-container" .component) | toYaml | nindent 2 }}
{{- end }}

{{/* Fields of the pod's spec before its containers. */}}
{{- define "certmint.podSpec" -}}
serviceAccountName: {{ include "certmint.serviceAccount" . }}
# Only the controller calls the API server. This overrides the setting of the service account.
automountServiceAccountToken: {{ eq .component "controller" }}
enableServiceLinks: false
{{- if .values.hostNetwork }}
hostNetwork: true
# On the host network, the default ClusterFirst uses the node's name servers, which cannot resolve Services.
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

{{/* Fields of a container's spec between its arguments and its volume mounts. */}}
{{- define "certmint.containerSpec" -}}
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
  # The kube-proxy of every node needs time to stop routing connections to this pod. SIGTERM follows after that.
  preStop:
    sleep:
      seconds: 5
resources:
  {{- toYaml .values.resources | nindent 2 }}
securityContext:
  {{- toYaml .values.securityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* Scheduling of a component's pods. */}}
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
    # Preferred, not required: a cluster with a single node must be able to run all pods.
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

{{/* ServiceAccount of a component. */}}
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

{{/* PodDisruptionBudget of a component. */}}
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
  # maxUnavailable instead of minAvailable: a single replica must not block the drain of a node.
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  # A pod that is not ready serves no requests, so it may always be evicted.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "certmint.selectorLabels" . | nindent 6 }}
{{- end }}
