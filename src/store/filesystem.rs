//! Which file systems a store cannot live on: those shared between machines, where neither file
//! locks nor the database's shared memory can be relied on (sqlite.org, "Write-Ahead Logging").

/// Magic numbers of statfs(2) and the kernel's `linux/magic.h`.
const NETWORK: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0xaad7_aaea, "PanFS"),
    (0xbeef_dead, "SNFS"),
    (0x786f_4256, "VirtualBox shared folder"),
    (0xbacb_acbc, "VMware shared folder"),
];

/// The name of the network file system that `magic` stands for, `None` for a local one.
pub(super) fn network_kind(magic: u64) -> Option<&'static str> {
    // The kernel's type is signed on some architectures, so that only 32 bits mean anything.
    let magic = magic & 0xffff_ffff;
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_and_local_ones_pass() {
        for (magic, kind) in
            [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xffff_ffff_ff53_4d42, "CIFS"), (0x0102_1997, "9P")]
        {
            assert_eq!(network_kind(magic), Some(kind));
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs, bcachefs
        for magic in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2fc1_2fc1,
            0xf2f5_2010,
            0xca45_1a4e,
        ] {
            assert_eq!(network_kind(magic), None);
        }
    }
}
