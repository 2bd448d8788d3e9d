package etcd

// SnapshotFromDataDir makes it in this process.
var SnapshotFromDataDir, SnapshotUpToHole = Apart(nil).SnapshotFromDataDir, Apart(nil).SnapshotUpToHole
