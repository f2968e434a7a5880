package group

import (
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Bounds of what the catalog keeps of groups. (They move to package catalog.)
const maxMemberID = 1024

var maxGroupTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)

func at(o *catalog.GroupOffset) catalog.GroupPartition {
	return catalog.GroupPartition{Topic: o.Topic, Partition: o.Partition}
}

func keepable(o *catalog.GroupOffset) bool {
	return o.Offset >= 0 && o.Partition >= 0 && isText(o.Metadata)
}
