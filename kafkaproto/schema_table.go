package kafkaproto

// requestShapes is the shape of every request body, by API key. See parseShape
// for the notation. A test encodes random requests of every key and version
// and wants the walk to end exactly where the encoding does.
var requestShapes = [...]string{
	// Produce.
	0: "3+:S 2 4 [0-12:s 13+:16 [4 B t] t] t",
	// Fetch.
	1: "0-14:4 4 4 3+:4 4+:1 7+:4 7+:4 [0-12:s 13+:16 [4 9+:4 8 12+:4 5+:8 4 t(0:<16> 1:<8>)] t] 7+:[7-12:s 13+:16 [4] t] 11+:s t(0:<S> 1:<4 8 t>)",
	// ListOffsets.
	2: "4 2+:1 [s [4 4+:4 8 0-0:4 t] t] 10+:4 t",
	// Metadata.
	3: "[10+:16 0-9:s 10+:S t] 4+:1 8-10:1 8+:1 t",
	// LeaderAndISR.
	4: "4 7+:1 4 2+:8 5+:1 0-1:[0-1:s 4 4 4 4 [4] 4 [4] 3+:[4] 3+:[4] 1+:1 6+:1 t] 2+:[s 5+:16 [0-1:s 4 4 4 4 [4] 4 [4] 3+:[4] 3+:[4] 1+:1 6+:1 t] t] [4 s 4 t] t",
	// StopReplica.
	5: "4 4 4+:1 1+:8 0-2:1 [s 0-0:4 1-2:[4] 3+:[4 4 1 t] t] t",
	// UpdateMetadata.
	6: "4 8+:1 4 5+:8 0-4:[0-4:s 4 4 4 4 [4] 4 [4] 4+:[4] t] 5+:[s 7+:16 [0-4:s 4 4 4 4 [4] 4 [4] 4+:[4] t] t] [4 0-0:s 0-0:4 1+:[4 s 3+:s 2 t] 2+:S t] t",
	// ControlledShutdown.
	7: "4 2+:8 t",
	// OffsetCommit.
	8: "s 1+:4 1+:s 7+:S 2-4:8 [0-9:s 10+:16 [4 8 1-1:8 6+:4 S t] t] t",
	// OffsetFetch.
	9: "0-7:s 0-7:[s [4] t] 8+:[s 9+:S 9+:4 [8-9:s 10+:16 [4] t] t] 7+:1 t",
	// FindCoordinator.
	10: "0-3:s 1+:1 4+:[s] t",
	// JoinGroup.
	11: "s 4 1+:4 s 5+:S s [s b t] 8+:S t",
	// Heartbeat.
	12: "s 4 s 3+:S t",
	// LeaveGroup.
	13: "s 0-2:s 3+:[s S 5+:S t] t",
	// SyncGroup.
	14: "s 4 s 3+:S 5+:S 5+:S [s b t] t",
	// DescribeGroups.
	15: "[s] 3+:1 t",
	// ListGroups.
	16: "4+:[s] 5+:[s] t",
	// SASLHandshake.
	17: "s",
	// ApiVersions.
	18: "3+:s 3+:s 5+:S 5+:4 t",
	// CreateTopics.
	19: "[s 4 2 [4 [4] t] [s S t] t] 4 1+:1 t",
	// DeleteTopics.
	20: "0-5:[s] 6+:[S 16 t] 4 t",
	// DeleteRecords.
	21: "[s [4 8 t] t] 4 t",
	// InitProducerID.
	22: "S 4 3+:8 3+:2 t",
	// OffsetForLeaderEpoch.
	23: "3+:4 [s [4 2+:4 4 t] t] t",
	// AddPartitionsToTxn.
	24: "0-3:s 0-3:8 0-3:2 0-3:[s [4] t] 4+:[s 8 2 1 [s [4] t] t] t",
	// AddOffsetsToTxn.
	25: "s 8 2 s t",
	// EndTxn.
	26: "s 8 2 1 t",
	// WriteTxnMarkers.
	27: "[8 2 1 [s [4] t] 4 2+:1 t] t",
	// TxnOffsetCommit.
	28: "s s 8 2 3+:4 3+:s 3+:S [0-5:s 6+:16 [4 8 2+:4 S t] t] t",
	// DescribeACLs.
	29: "1 S 1+:1 S S 1 1 t",
	// CreateACLs.
	30: "[1 s 1+:1 s s 1 1 t] t",
	// DeleteACLs.
	31: "[1 S 1+:1 S S 1 1 t] t",
	// DescribeConfigs.
	32: "[1 s [s] t] 1+:1 3+:1 t",
	// AlterConfigs.
	33: "[1 s [s S t] t] 1 t",
	// AlterReplicaLogDirs.
	34: "[s [s [4] t] t] t",
	// DescribeLogDirs.
	35: "[s [4] t] t",
	// SASLAuthenticate.
	36: "b t",
	// CreatePartitions.
	37: "[s 4 [[4] t] t] 4 1 t",
	// CreateDelegationToken.
	38: "3+:S 3+:S [s s t] 8 t",
	// RenewDelegationToken.
	39: "b 8 t",
	// ExpireDelegationToken.
	40: "b 8 t",
	// DescribeDelegationToken.
	41: "[s s t] t",
	// DeleteGroups.
	42: "[s] t",
	// ElectLeaders.
	43: "1+:1 [s [4] t] 4 t",
	// IncrementalAlterConfigs.
	44: "[1 s [s 1 S t] t] 1 t",
	// AlterPartitionAssignments.
	45: "4 1+:1 [s [4 [4] t] t] t",
	// ListPartitionReassignments.
	46: "4 [s [4] t] t",
	// OffsetDelete.
	47: "s [s [4]]",
	// DescribeClientQuotas.
	48: "[s 1 S t] 1 t",
	// AlterClientQuotas.
	49: "[[s S t] [s 8 1 t] t] 1 t",
	// DescribeUserSCRAMCredentials.
	50: "[s t] t",
	// AlterUserSCRAMCredentials.
	51: "[s 1 t] [s 1 4 b b t] t",
	// Vote.
	52: "S 1+:4 [s [4 4 4 1+:16 1+:16 4 8 2+:1 t] t] t",
	// BeginQuorumEpoch.
	53: "S 1+:4 [s [4 1+:16 4 4 t] t] 1+:[s s 2 t] t",
	// EndQuorumEpoch.
	54: "S [s [4 4 4 0-0:[4] 1+:[4 16 t] t] t] 1+:[s s 2 t] t",
	// DescribeQuorum.
	55: "[s [4 t] t] t",
	// AlterPartition.
	56: "4 8 [0-1:s 2+:16 [4 4 0-2:[4] 3+:[4 8 t] 1+:1 4 t] t] t",
	// UpdateFeatures.
	57: "4 [s 2 0-0:1 1+:1 t] 1+:1 t",
	// Envelope.
	58: "b B b t",
	// FetchSnapshot.
	59: "4 4 [s [4 4 8 4 t 8 t(0:<16>)] t] t(0:<S>)",
	// DescribeCluster.
	60: "1 1+:1 2+:1 t",
	// DescribeProducers.
	61: "[s [4] t] t",
	// BrokerRegistration.
	62: "4 s 16 [s s 2 2 t] [s 2 2 t] S 1+:1 2+:[16] 3+:8 t",
	// BrokerHeartbeat.
	63: "4 8 8 1 1 t(0:<[16]> 1:<[16]>)",
	// UnregisterBroker.
	64: "4 t",
	// DescribeTransactions.
	65: "[s] t",
	// ListTransactions.
	66: "[s] [8] 1+:8 2+:S t",
	// AllocateProducerIDs.
	67: "4 8 t",
	// ConsumerGroupHeartbeat.
	68: "s s 4 S S 4 [s] 1+:S S [16 [4] t] t",
	// ConsumerGroupDescribe.
	69: "[s] 1 t",
	// ControllerRegistration.
	70: "4 16 1 [s s 2 2 t] [s 2 2 t] t",
	// GetTelemetrySubscriptions.
	71: "16 t",
	// PushTelemetry.
	72: "16 4 1 1 b t",
	// AssignReplicasToDirs.
	73: "4 8 [16 [16 [4 t] t] t] t",
	// ListConfigResources.
	74: "1+:[1] t",
	// DescribeTopicPartitions.
	75: "[s t] 4 {s 4 t} t",
	// ShareGroupHeartbeat.
	76: "s s 4 S [s] t",
	// ShareGroupDescribe.
	77: "[s] 1 t",
	// ShareFetch.
	78: "S S 4 4 4 4 1+:4 1+:4 2+:1 2+:1 [16 [4 0-0:4 [8 8 [1] t] t] t] [16 [4] t] t",
	// ShareAcknowledge.
	79: "S S 4 2+:1 [16 [4 [8 8 [1] t] t] t] t",
	// AddRaftVoter.
	80: "S 4 4 16 [s s 2 t] 1+:1 t",
	// RemoveRaftVoter.
	81: "S 4 16 t",
	// UpdateRaftVoter.
	82: "S 4 4 16 [s s 2 t] 2 2 t t",
	// InitializeShareGroupState.
	83: "s [16 [4 4 8 t] t] t",
	// ReadShareGroupState.
	84: "s [16 [4 4 t] t] t",
	// WriteShareGroupState.
	85: "s [16 [4 4 4 8 1+:4 [8 8 1 2 t] t] t] t",
	// DeleteShareGroupState.
	86: "s [16 [4 t] t] t",
	// ReadShareGroupStateSummary.
	87: "s [16 [4 4 t] t] t",
	// StreamsGroupHeartbeat.
	88: "s s 4 4 S S 4 {4 [s [s] [s] [s 4 2 [s s t] t] [s] [s 4 2 [s s t] t] [[2] [2] [2] t] t] t} [s [4] t] [s [4] t] [s [4] t] S {s 2 t} [s s t] [s 4 8 t] [s 4 8 t] 1 t",
	// StreamsGroupDescribe.
	89: "[s] 1 1+:1 t",
	// DescribeShareGroupOffsets.
	90: "[s [s [4] t] t] t",
	// AlterShareGroupOffsets.
	91: "s [s [4 8 t] t] t",
	// DeleteShareGroupOffsets.
	92: "s [s t] t",
	// StreamsGroupTopologyDescriptionUpdate.
	93: "s s 4 [s [s 1 [s] S [s] [s] t] t] [s 1 [s] S [s] [s] t s 1 [s] S [s] [s] t t] t t",
	// UnregisterController.
	94: "4 t",
}
