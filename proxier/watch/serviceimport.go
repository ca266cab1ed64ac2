package watch

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// importGroup is the version of the Multi-Cluster Services API (KEP-1645) that is read.
var importGroup = schema.GroupVersion{Group: "multicluster.x-k8s.io", Version: "v1alpha1"}

// A ServiceImport is a Service of another cluster, as far as names need it.
type ServiceImport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ServiceImportSpec `json:"spec,omitempty"`
}

// A ServiceImportSpec says how an imported Service is reached.
type ServiceImportSpec struct {
	Type  string               `json:"type,omitempty"` // ClusterSetIP or Headless
	IPs   []string             `json:"ips,omitempty"`
	Ports []corev1.ServicePort `json:"ports,omitempty"`
}

// A ServiceImportList is a list of them.
type ServiceImportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceImport `json:"items"`
}

// DeepCopyObject returns a copy that shares nothing with the object.
func (s *ServiceImport) DeepCopyObject() runtime.Object {
	out := *s
	s.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.IPs = append([]string(nil), s.Spec.IPs...)
	out.Spec.Ports = make([]corev1.ServicePort, len(s.Spec.Ports))
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].DeepCopyInto(&out.Spec.Ports[i])
	}
	return &out
}

// DeepCopyObject returns a copy that shares nothing with the list.
func (l *ServiceImportList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = make([]ServiceImport, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*ServiceImport)
	}
	return &out
}

func addImports(s *runtime.Scheme) error {
	s.AddKnownTypes(importGroup, &ServiceImport{}, &ServiceImportList{})
	metav1.AddToGroupVersion(s, importGroup)
	return nil
}
