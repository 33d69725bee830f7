# Makes what QEMU boots: `vmlinuz`, `initrd` and `disk`, below the directory named first, from the
# packages that were fetched there, with the two programs named next.
place=$1 belljar=$2 tests=$3
here=$(dirname "$0")
cd "$place"
rm -rf tree early disk initrd
mkdir tree early
for package in cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C tree --keep-directory-symlink \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' --exclude='./usr/share/zoneinfo/*' -f -
done

# The kernel is handed to QEMU; of its modules, those without which there is no disk come first, and
# those of the network stay for the kernel to load when a rule needs them.
mv tree/boot/vmlinuz-* vmlinuz
for module in drivers/block/virtio_blk fs/overlayfs/overlay; do
    cp tree/usr/lib/modules/*/kernel/$module.ko* early/
done
(cd tree/usr/lib/modules/*/kernel && rm -rf arch block crypto drivers fs mm security sound virt)
rm -rf tree/boot
mkdir -p tree/boot early/dev early/root
cp tree/usr/bin/busybox early/busybox
cp "$OLDPWD/$here/early.sh" early/init
chmod 755 early/init
(cd early && find . | ./busybox cpio -o -H newc -R 0:0) 2>/dev/null | gzip -1 >initrd

mkdir -p tree/opt/belljar/deps
cp "$belljar" tree/opt/belljar/belljar
cp "$tests" tree/opt/belljar/deps/sandbox
cp "$OLDPWD/$here/guest.sh" tree/opt/belljar/guest.sh
truncate -s 1G disk
# An ordinary user's files are root's in the guest.
as_root=
[ "$(id -u)" = 0 ] || as_root='unshare --map-root-user'
$as_root mkfs.ext4 -q -F -d tree disk
rm -rf tree early
