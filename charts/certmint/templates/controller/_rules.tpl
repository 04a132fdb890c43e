{{/* What the controller may do where workloads are: in the whole cluster, or namespace by namespace. */}}
{{- define "certmint.workloadRules" -}}
# Workloads that opted in are watched, and by their metadata those that do not have our label, to find annotations
# that no webhook saw. The owner chain of a pod that asks is read up to its workload.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch]
# Injected pods are watched, so that each of them is served. The pod behind a token is read live.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# A workload's names are those of the Services that select its pods.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
# Certificates are delivered in Secrets: watched as metadata by our label, read and written one at a time.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# What is wrong with a workload is said where kubectl describe shows it.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
