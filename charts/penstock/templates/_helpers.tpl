{{/* Name of the chart, 40 characters at most, so that everything derived from it fits. */}}
{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* First part of all names: the release's name, and the chart's where the release does not say it. */}}
{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "penstock.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "penstock.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Argument: dict "root" $ "component" "dispatcher". */}}
{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels that select a part's pods; they never change between versions. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ include "penstock.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Image of a part. Argument: dict "root" $ "image" .Values.operator.image. */}}
{{- define "penstock.image" -}}
{{- printf "%s/%s:%s" (trimSuffix "/" .root.Values.image.registry) .image.repository (default .root.Values.image.tag .image.tag) -}}
{{- end -}}

{{/* Served namespaces, separated by commas; without values the release's own. */}}
{{- define "penstock.namespaces" -}}
{{- default (list .Release.Namespace) .Values.namespaces | uniq | join "," -}}
{{- end -}}

{{- define "penstock.authSecret" -}}
{{- default (printf "%s-auth" (include "penstock.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{/* The dispatcher's address for clients and workers. */}}
{{- define "penstock.address" -}}
{{- printf "%s-dispatcher.%s.svc:%d" (include "penstock.fullname" .) .Release.Namespace (int .Values.dispatcher.service.port) -}}
{{- end -}}

{{/* A pod that fits the Pod Security level "restricted". 65532 is the user of the images. */}}
{{- define "penstock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "penstock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a pod may run. Argument: the part's values. */}}
{{- define "penstock.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* "true" when this release installs and upgrades the WorkerPool resource. */}}
{{- define "penstock.ownsCrd" -}}
{{- if .Values.crds.enabled -}}
{{- $present := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "workerpools.penstock.dev" -}}
{{- if not $present -}}
true
{{- else -}}
{{- $annotations := default dict $present.metadata.annotations -}}
{{- $release := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- and (eq $release .Release.Name) (eq $namespace .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
