{{/* RBAC rules of the controller for workloads, either for the whole cluster or for each served namespace. */}}
{{- define "certmint.workloadRules" -}}
# The controller watches workloads that opted in. It watches the metadata of the other workloads to find annotations that the
# webhook did not see. For a pod that calls the issuance API, it reads the pod's owners, such as a ReplicaSet, up to the workload.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets, replicasets]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch]
# The controller watches injected pods, so that each of them gets a certificate. When a pod calls the issuance API, the controller reads this pod from the API server.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# A workload's certificate has the names of the Services that select its pods.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
# Secrets deliver the certificates. The controller watches the metadata of Secrets with Certmint's label, and reads and writes
# individual Secrets by name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Events report problems of a workload, where kubectl describe shows them.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
