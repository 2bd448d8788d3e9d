package finding

// Kind is one row of the table of findings.
type Kind struct {
	Code        Code
	Severity    Severity
	Meaning, Do string
}

// Group is the kinds of findings about one matter.
type Group struct {
	About string
	Kinds []Kind
}

// Kinds are all kinds of findings.
func Kinds() (all []Kind) {
	for _, g := range Groups() {
		all = append(all, g.Kinds...)
	}
	return all
}

// Groups is the table of findings, in the order of the page that is made from it.
func Groups() []Group {
	return []Group{
		{"of runs", ofRuns()},
		{"of manifests", ofManifests()},
		{"of the node", ofNodes()},
		{"of etcd", ofEtcd()},
		{"of the cluster", ofClusters()},
		{"of certificates", ofCertificates()},
		{"of backups", ofBackups()},
		{"of rehearsals", ofRehearsals()},
		{"of plans: in a phase of `--dry-run`; with `--yes` in events with the state `note`, before all others",
			ofPlans()},
		{"of upgrades that are planned: in `upgrade plan`, which finds many of the others, too", ofUpgrades()},
		{"of runs that are carried out: in events with the state `note`", ofNotes()},
	}
}

func ofRuns() []Kind {
	return []Kind{
		{RunOpen, Critical,
			"A run was interrupted: it is neither finished nor undone.",
			"`etcdpod resume` finishes it, `etcdpod rollback` undoes it; `next` says which is " +
				"possible."},
		{RunUnderWay, Warning,
			"An etcdpod is changing this node now.",
			"Wait until it has ended: `etcdpod runs`."},
		{RunUnreadable, Critical,
			"The journal of a run cannot be read, so what it did is not known.",
			"Look at the folder of the run before anything else is changed."},
	}
}

func ofManifests() []Kind {
	return []Kind{
		{NotControlPlane, Warning,
			"The machine is no control-plane node: there is nothing to look at.",
			"Nothing, or run it on a control-plane node."},
		{ManifestDirUnreadable, Critical,
			"The static-pod directory cannot be read.",
			"Check the directory, and the kubelet's `staticPodPath`."},
		{ManifestUnreadable, Warning,
			"A file in the static-pod directory is not a manifest.",
			"Correct it, or move it out of the directory."},
		{ManifestDoubled, Warning,
			"Several files claim one pod: the kubelet runs one of them, and perhaps another after its " +
				"next start.",
			"Move the copies out of the directory."},
		{ManifestUnresolved, Warning,
			"A setting is taken from another object, and nothing on the node shows its value.",
			"Write the value into the manifest."},
		{EtcdManifestMissing, Critical,
			"No manifest runs etcd, although this node has etcd's files, or is a control plane.",
			"Put etcd's manifest back; `etcdpod runs` shows whether a run took it out."},
		{EtcdDeparted, Info,
			"The member of this node was removed from its cluster, and nothing runs it any more.",
			"`kubeadm reset`, or `etcdpod join`; never put the old manifest back."},
		{EtcdManifestUnusable, Critical,
			"etcd's manifest cannot be relied on: it has no usable settings, or several files run " +
				"etcd.",
			"Do what the text says."},
		{EtcdForceNewCluster, Critical,
			"etcd is started with `--force-new-cluster`: its next start would remove all other members.",
			"Remove that flag."},
		{EtcdAnother, Warning,
			"The node runs another etcd, which etcdpod does not back up.",
			"Back it up by other means."},
		{APIServerManifestMissing, Critical,
			"No manifest runs the API server, although its certificate exists.",
			"Put the API server's manifest back."},
	}
}

func ofNodes() []Kind {
	return []Kind{
		{KubeletStopped, Critical,
			"The kubelet does not run: nothing that exits is restarted.",
			"`systemctl start kubelet`."},
		{KubeletUnknown, Warning,
			"It is not known whether the kubelet runs.",
			"See `--kubelet-status-command`, and the text."},
		{RuntimeUnreachable, Warning,
			"The container runtime does not answer: what runs is not known.",
			"Start the runtime, or name its socket with `--cri-socket`."},
		{ContainerMissing, Critical,
			"A manifest exists, but its container does not.",
			"Read the kubelet's log."},
		{ContainerStopped, Critical,
			"A control-plane container has exited.",
			"The text quotes the end of its log."},
		{ContainerRestarts, Critical,
			"etcd or the API server keeps exiting.",
			"The text says why."},
		{CannotStart, Critical,
			"It runs now, but could not start again: an image, file, address, mount or " +
				"certificate is missing.",
			"Do what the text says before anything restarts."},
	}
}

func ofEtcd() []Kind {
	return []Kind{
		{EtcdUnreachable, Critical,
			"etcd does not answer.",
			"`next` says what is most likely to help."},
		{EtcdNoQuorum, Critical,
			"etcd answers, but has no quorum: the cluster takes no writes.",
			"Start the other members; if they are lost for good, see the runbook for a lost quorum."},
		{EtcdAlarm, Critical,
			"etcd raised an alarm: with NOSPACE it takes no writes, with CORRUPT the members differ.",
			"NOSPACE: make room, then `etcdpod defrag`, which disarms it. CORRUPT: back up each member first."},
		{EtcdQuota, Warning,
			"The data fills most of the quota; at 100 % etcd takes no more writes.",
			"Delete what is not needed, or raise `--quota-backend-bytes`."},
		{EtcdFragmented, Warning,
			"The file fills most of the quota, but little of it is in use.",
			"`etcdpod defrag`."},
		{EtcdPlainHTTP, Critical,
			"etcd is reached over plain HTTP: anyone who can reach it can read and change everything.",
			"Serve with TLS."},
		{EtcdNoClientCerts, Critical,
			"etcd answers clients without a certificate.",
			"Set `--client-cert-auth=true` and `--trusted-ca-file`."},
		{EtcdFellBack, Critical,
			"An earlier backup of this node holds what etcd does not: it lost data, was put back, or is another " +
				"cluster's. `backup --keep` deletes nothing.",
			"Restore the backup. If it is meant to be so, move the backups from before to another directory."},
		{EtcdEmptied, Critical,
			"The cluster knows this node's member, but the data directory holds none of its data.",
			"Let it join again as a new member; `next` says how."},
		{EtcdDataMissing, Critical,
			"etcd does not answer, and its data directory holds no data, or no db.",
			"Mount the disk that has it, correct `--data-dir`, let etcd make its db anew from its log, " +
				"or restore a backup; `next` says what fits."},
		{DiskFull, Critical,
			"The file system of etcd's data or log is almost full: etcd exits when it is full.",
			"Make room."},
		{EtcdLearner, Warning,
			"The API server uses a member that is a learner, which refuses its requests.",
			"Use voting members: `etcdpod apiserver set`."},
		{KubeadmDataDir, Warning,
			"kubeadm's ClusterConfiguration names another data directory: the next `kubeadm upgrade` " +
				"would start etcd there, empty.",
			"Correct `etcd.local.dataDir` in the ConfigMap `kubeadm-config`."},
		{EtcdVersionUnsafe, Critical,
			"This version of etcd has a known fault that loses data.",
			"Upgrade etcd to the newest patch release of its minor version."},
		{EtcdForgetsRemovals, Warning,
			"etcd 3.5 before 3.5.26 can forget that a member was removed, which comes back with the upgrade to 3.6.",
			"Upgrade etcd to the newest 3.5 first."},
		{EtcdDowngrade, Warning,
			"A downgrade of the cluster was enabled and has not ended: version and data are held at the older one.",
			"Finish it with `etcdpod downgrade`, or `etcdpod downgrade cancel`."},
		{EtcdGrows, Warning,
			"At the pace of the last backups, etcd's file reaches its quota within 30 days.",
			"Find out what grows: `etcdpod verify` counts the keys of a backup. Then delete, or raise the quota."},
		{MemberBehind, Critical,
			"The member has not applied the newest entries of the log; 5,000 behind, it refuses requests.",
			"Look at its disk and processor: `etcdpod members` shows whether it catches up."},
		{EtcdDiskSlow, Warning,
			"For five seconds, most fsyncs of etcd's log took longer than 0.5 s, or most commits of its database " +
				"longer than 0.25 s; or some did, as since its start: members lose their leader.",
			"See what else uses the disk: `iostat -x 1`. Give etcd a disk of its own."},
		{EtcdStarved, Warning,
			"For five seconds, etcd's leader was silent for two fifths of the time or changed twice, writes " +
				"failed or were held up, or most of what was applied took longer than 0.1 s.",
			"See what uses processors and disk: `top`, `iostat -x 1`."},
		{EtcdChanged, Critical,
			"At the revision of a backup, etcd holds something else than the backup says.",
			"`etcdpod verify` the backup; if it is good, take a backup of each member before anything else."},
	}
}

func ofClusters() []Kind {
	return []Kind{
		{NodeUnreachable, Critical,
			"A node could not be queried.",
			"See the text: ssh, the remote command, or the node itself."},
		{MemberSilent, Critical,
			"A member elsewhere does not answer.",
			"Start it; if it is gone for good, `etcdpod remove`, then join another: " +
				"`/usr/share/doc/etcdpod/docs/runbooks/one-node-lost.md`."},
		{MemberNeverStarted, Warning,
			"A member was added but never started. It counts for quorum unless it is a learner.",
			"Start it, or remove it: `etcdpod remove ID`."},
		{MemberFar, Warning,
			"A connection to another member takes longer than 0.15 s, and than one and a half heartbeat intervals.",
			"Check the network; or raise `--heartbeat-interval` and `--election-timeout` on all members."},
		{LeaderChanges, Warning,
			"Since etcd was started, an hour ago or longer, its leader has changed more often than every four " +
				"minutes.",
			"`etcdpod status --watch` shows the disk and the time between the members."},
		{MemberSameName, Warning,
			"Several members share a name; one is probably left over from a rebuilt node.",
			"Remove the one that is gone."},
		{MemberLocalURL, Warning,
			"No other node can reach a member's peer URL: no node can join.",
			"The text has the command that corrects it."},
		{MemberLearner, Warning,
			"A member is a learner: it has the data, but neither votes nor serves. That is normal while a node joins.",
			"If no join is under way, finish it on that node with `etcdpod resume` or `etcdpod join`, or remove the " +
				"member: `etcdpod remove ID`."},
		{MembersEven, Warning,
			"The cluster has an even number of voting members: it survives no more losses than with one fewer.",
			"Add one with `etcdpod join`, or remove one with `etcdpod remove`."},
		{MembersMany, Warning,
			"The cluster has seven voting members or more: each write waits for more than half of them.",
			"Remove some with `etcdpod remove`: five survive the loss of two."},
		{MembersDiffer, Critical,
			"Members of one cluster do not hold the same data.",
			"Take a backup of each member before anything else."},
		{MembersLeftOut, Warning,
			"The last restore left members out; if they start again, the old cluster serves beside " +
				"this one.",
			"Wipe their data before they are started."},
		{ClustersDiffer, Critical,
			"The nodes are members of different clusters, or an API server uses several.",
			"Check `--etcd-servers` and etcd's manifests."},
		{ClocksDiffer, Warning,
			"The clocks of two nodes differ by more than a second.",
			"Check that time is synchronized on each node: `chronyc tracking` or `timedatectl`."},
		{ImagesDiffer, Warning,
			"The nodes run a program from different images. That is normal during an upgrade only.",
			"Finish the upgrade."},
		{FlagsDiffer, Warning,
			"The nodes run a program with different flags.",
			"Make them the same, unless that is intended."},
		{APIServerDead, Warning,
			"An API server that is gone is still registered, without a lease: the Service kubernetes " +
				"sends clients there.",
			"The text has the command that removes it."},
		{APIServerPrefix, Info,
			"The API server has `--etcd-prefix`, and etcdpod looks for Kubernetes' objects below /registry only: " +
				"what it finds there is not this cluster's.",
			"Backups and restores are whole. Check by hand what the text names."},
		{KubeconfigsMissing, Warning,
			"The node runs an API server, and has no administrator's kubeconfig: a restore is refused.",
			"`kubeadm init phase kubeconfig admin`, or copy admin.conf from another control plane."},
		{KubeconfigsRejected, Critical,
			"The API server accepts none of the administrator's kubeconfigs.",
			"`kubeadm certs renew admin.conf`, or `kubeadm init phase kubeconfig admin`."},
	}
}

func ofCertificates() []Kind {
	return []Kind{
		{CertificateMissing, Critical,
			"A certificate or its key is missing.",
			"`etcdpod init phase certs`, or `kubeadm init phase certs` for those that are not etcd's; with an " +
				"external CA, `etcdpod certs generate-csr`."},
		{CertificateUnreadable, Critical,
			"A file holds no certificate or key that can be read.",
			"Put the right file back."},
		{CertificateExpired, Critical,
			"A certificate has expired.",
			"`etcdpod certs renew`, `kubeadm certs renew` for those that are not etcd's. " +
				"A CA must be rotated by hand."},
		{CertificateExpiring, Warning,
			"A certificate expires within 30 days.",
			"As above."},
		{CertificateNotYetValid, Critical,
			"A certificate is not valid yet, or the clock of the node is behind.",
			"Check the clock: `date -u`."},
		{CertificateWrongKey, Critical,
			"A certificate and its key do not belong together.",
			"Put back the file that matches the other."},
		{CertificateWrongCA, Critical,
			"A certificate was not signed by the CA that is used for it.",
			"Put the CA back, or renew the certificate."},
		{CertificateWrongUsage, Critical,
			"A certificate lacks the extended key usage that it is used for.",
			"Renew it; of kubeadm's, move the file away, and create it again: `kubeadm init phase certs`."},
		{CertificateWrongNames, Critical,
			"A certificate does not cover the names or addresses at which it is used.",
			"Correct the configuration, and renew it; of kubeadm's, whose names a renewal keeps, move the file away, " +
				"and create it again: `kubeadm init phase certs`."},
		{CertificateNotServed, Warning,
			"A process still presents a different certificate than its file holds.",
			"Restart it: `crictl stop`; the kubelet starts it again."},
		{CAUnread, Warning,
			"A CA file was last modified after the program had started, which reads it only when it starts.",
			"If the CAs in it are others, restart the program: `crictl stop`, on one node after the other."},
		{FileNotMounted, Critical,
			"The API server's container does not see a file that its flags name.",
			"Mount it, or correct the flag."},
		{PortSilent, Critical,
			"A program does not answer at an address that its manifest gives it.",
			"Start it, or fix what the text says."},
		{PortPlain, Critical,
			"A program answers without TLS where its manifest says https.",
			"Find out what listens there."},
	}
}

func ofBackups() []Kind {
	return []Kind{
		{BackupMissing, Warning,
			"There is no good backup of this node in the backup directory.",
			"`etcdpod backup`; if this node is not meant to take any, `--max-backup-age none`."},
		{BackupOld, Warning,
			"The newest backup is older than `--max-backup-age`.",
			"Find out why none was taken: `etcdpod backup`."},
		{BackupDirUnreadable, Warning,
			"The directory of the backups cannot be read.",
			"Mount it, or name another with `--dir`."},
		{BackupBesideEtcd, Info,
			"The backup is on the same file system as etcd's data, and would be lost with it.",
			"Copy it elsewhere."},
		{BackupExposed, Info,
			"Others can replace or delete the backup.",
			"Remove their write permission on the directory."},
		{BackupForeign, Warning,
			"Others may have written a backup or its sidecar: `status` and `restore` do not rely on what it says.",
			"If you know that it is good, `chown root:` both files, and `chmod 600`."},
		{BackupIncomplete, Warning,
			"A data directory was incomplete: the backup ends early, or may.",
			"See the text for what is missing."},
		{BackupOfAnother, Info,
			"Nothing shows that what is backed up is of this node's cluster.",
			"Nothing, if that is intended; otherwise correct `--endpoints` or `--from-data-dir`."},
		{BackupNotSent, Critical,
			"A backup is good, but one of its targets does not have it.",
			"`etcdpod target check` tries what the text says is wrong; then take another backup."},
		{BackupPlain, Warning,
			"Backups are sent to a target without being encrypted.",
			"Name with `--encrypt-to` who may read them."},
		{BackupUnsigned, Warning,
			"Nothing signed an encrypted backup: whoever can write where it is kept could put another one in its " +
				"place.",
			"`ssh-keygen -t ed25519 -N '' -f /etc/etcdpod/sign.key`, and the next backup is signed."},
		{BackupUntrusted, Warning,
			"The signature of a backup is missing, or of a key that nobody here trusts.",
			"Add the key of the node that took it to `/etc/etcdpod/allowed_signers`, or name a file with `--trust`."},
		{MembersUncompared, Warning,
			"It could not be checked whether all members hold the same data.",
			"Start the members that did not answer."},
		{BackupCleanup, Warning,
			"The backup is good, but old backups or leftovers could not be removed.",
			"Remove them by hand, and see why."},
		{SnapshotBad, Critical,
			"A snapshot failed a check; `check` says which.",
			"Use another backup."},
		{SnapshotMissing, Warning,
			"A sidecar exists without its snapshot.",
			"Find the snapshot, or delete the sidecar."},
		{SnapshotLength, Critical,
			"A snapshot does not have the length that its sidecar says.",
			"Use another backup."},
		{SnapshotIrregular, Warning,
			"Something with a snapshot's name is not a regular file.",
			"Check what it is."},
		{SidecarMissing, Warning,
			"No sidecar describes a snapshot.",
			"`etcdpod verify` shows what it holds."},
		{SidecarUnreadable, Warning,
			"The sidecar beside a snapshot cannot be read.",
			"`etcdpod verify` checks the snapshot."},
	}
}

func ofNotes() []Kind {
	return []Kind{
		{ObjectsNotReadBack, Warning,
			"The restored objects were not read back through the API server, or cannot be.",
			"Do what the text says, then look at the cluster with kubectl."},
		{ObjectsMissing, Warning,
			"The API server shows none of a resource that the snapshot held.",
			"They may have expired; otherwise find out why."},
		{KubeletsToRestart, Warning,
			"Kubelets still hold state from before the restore, or are no longer registered.",
			"Restart them: `systemctl restart kubelet`."},
		{APIServerMute, Warning,
			"The API server answers, but lets no kubeconfig on this node check whether it is ready.",
			"Renew the administrator's kubeconfig."},
		{ManifestChanged, Warning,
			"Somebody else wrote a manifest while a run held it.",
			"Compare it with the copy that the text names."},
		{WritesKept, Warning,
			"Clients had written to data that was taken out of use, or it could not be determined; the data is kept.",
			"Check the data that the text names."},
		{BackupUnrecorded, Warning,
			"If this backup is interrupted, the next one does not remove its leftovers.",
			"Fix what the text says; after an interruption, remove the leftovers by hand."},
		{NewcomerLost, Warning,
			"The machine that was to take the place of a member was lost on the way.",
			"Prepare another one, and run `etcdpod join` on it."},
		{LeftInPlace, Warning,
			"Undoing a run left something where it is, because the run did not create it.",
			"Check what the text names, and whose it is."},
		{APIServerNotReady, Critical,
			"The API server runs, but does not serve; or it is not ready again after a change of it was " +
				"undone.",
			"Do what the text says; its log is in /var/log/pods."},
	}
}
