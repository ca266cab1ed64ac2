package proxiertest

import "slices"

// Scenarios are all stories that a backend has to tell, topic by topic.
func Scenarios() []Scenario {
	return slices.Concat(
		matrixScenarios,
		clusterIPScenarios, nodePortScenarios, externalIPScenarios, loadBalancerScenarios, sourceRangeScenarios,
		internalPolicyScenarios, externalPolicyScenarios, terminatingScenarios, topologyScenarios,
		affinityScenarios, hairpinScenarios, hostNetworkScenarios, noEndpointsScenarios,
		portsScenarios, ownershipScenarios, typeChangeScenarios, conflictScenarios,
		masqueradeScenarios, dualStackScenarios, udpScenarios, sctpScenarios, balanceScenarios,
		hostScenarios, lifecycleScenarios, hostileScenarios, randomScenarios(),
	)
}
