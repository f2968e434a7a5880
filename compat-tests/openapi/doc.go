// Package openapi compares docs/openapi.yaml with what a broker answers over HTTP:
// groups in several states are made, everything in the document is asked, with
// each filter and in each way that is wrong, and each answer is checked against the
// document by kin-openapi. What is in the document and was not asked, or is served and
// not in the document, fails.
package openapi
