package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// changedAt returns when the change happened that the endpoint controller tells of in this slice,
// by the annotation endpoints.kubernetes.io/last-change-trigger-time. It is the zero time if that
// is unknown or was before this process began: such a change did not wait for this process.
func (s *Store) changedAt(slice *discoveryv1.EndpointSlice) time.Time {
	at, err := time.Parse(time.RFC3339Nano, slice.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil || !at.After(s.started) {
		return time.Time{}
	}
	return at
}

// trimStreamed is trimSlice for a slice that putSlice will get later: it leaves the annotation
// that changedAt reads. Of a first list, that is on hardly any.
func (s *Store) trimStreamed(slice *discoveryv1.EndpointSlice) {
	text, keep := slice.Annotations[corev1.EndpointsLastChangeTriggerTime], !s.changedAt(slice).IsZero()
	trimSlice(slice)
	if keep {
		slice.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: text}
	}
}

// triggered notes when a change of slice happened that is about to be published. It is called with
// mu held.
func (s *Store) triggered(slice *discoveryv1.EndpointSlice, at time.Time) {
	if _, headless := slice.Labels[corev1.IsHeadlessService]; !at.IsZero() && !headless {
		s.triggers = append(s.triggers, proxier.Trigger{At: at, IPv6: slice.AddressType == discoveryv1.AddressTypeIPv6})
	}
}

// gather returns what is to be published now, and what triggered the changes in it. Others may call
// Inputs at any time: they take nothing away.
func (s *Store) gather() (resolve.Inputs, []proxier.Trigger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	triggers := s.triggers
	s.triggers, s.expectMore = nil, false
	return s.current(), triggers
}
