{{- define "paddock-operator.labels" -}}
app.kubernetes.io/name: paddock-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: paddock
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "paddock-operator.selector" -}}
app.kubernetes.io/name: paddock-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "paddock-operator.args" -}}
- --log={{ .Values.logLevel }}
- --gateway={{ .Values.gateway.name }}
- --gateway-namespace={{ .Values.gateway.namespace }}
- --gateway-proxy-namespace={{ .Values.gateway.proxyNamespace | default .Values.gateway.namespace }}
{{- range $key, $value := .Values.gateway.proxyLabels }}
- --gateway-proxy-label={{ $key }}={{ $value }}
{{- end }}
{{- with .Values.gateway.publicHttpsPort }}
- --public-https-port={{ . }}
{{- end }}
- --prometheus-namespace={{ .Values.prometheus.namespace }}
{{- range $key, $value := .Values.prometheus.podLabels }}
- --prometheus-label={{ $key }}={{ $value }}
{{- end }}
- --dns-namespace={{ .Values.network.dnsNamespace }}
- --service-subnet={{ .Values.network.serviceSubnet }}
- --pod-subnet={{ .Values.network.podSubnet }}
{{- with .Values.domainCa.secretName }}
- --domain-ca-secret={{ . }}
{{- end }}
{{- with .Values.otlp.endpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- range .Values.registries }}
- --registry={{ . }}
{{- end }}
{{- end }}
