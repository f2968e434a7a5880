// Package manifests reads what deployments are made of, deploy/kubernetes and docker-compose.dev.yml, with the code that
// will read them there: Kubernetes' own types, strictly, and Compose's loader. Fields that they do not know, or of the
// wrong type, are errors. It starts nothing.
package manifests
