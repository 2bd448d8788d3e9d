package finding

// ofRehearsals are what `rehearse` finds, and what `status` says of the newest rehearsal.
func ofRehearsals() []Kind {
	return []Kind{
		{RehearsalFailed, Warning,
			"The newest rehearsal of a restore failed, or found something wrong.",
			"`etcdpod rehearse latest`; if it fails again, take a backup, and rehearse that one."},
		{RehearsalOld, Warning,
			"Restores were rehearsed more than once, and the backup of the newest rehearsal is more than 30 days old.",
			"`etcdpod rehearse latest`; find out why it is not done any more."},
		{RehearsalDiffers, Critical,
			"The etcd that was started on the restored data does not serve what the file holds.",
			"Use another backup; take one now."},
		{RehearsalShrunk, Warning,
			"At most half is left of a kind of objects that the rehearsal before has found.",
			"Find out who deleted them. An earlier backup still has them."},
		{RehearsalOtherFiles, Warning,
			"The restored cluster would need CAs or keys that this node does not have.",
			"Find those that belong to the backup, and keep them with it."},
		{RehearsalOtherEtcd, Info,
			"The data is of another release of etcd than the one that was started on it.",
			"Nothing, or give an etcd of that release with `--etcd`."},
	}
}
