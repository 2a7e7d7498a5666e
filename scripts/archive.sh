# For scripts that source this: makes an archive of small pictures with a list of them.
# Usage: make_archive FOLDER ROWS [FIRST_ROW [BLOCKS]]
# FOLDER/list.manifest.csv then has so many rows in all; those before FIRST_ROW are there already. Each picture differs and has
# so many blocks of 256 bytes, 8 by default; each row is a document of its own, and ten rows are of one profile.
make_archive() {
    mkdir -p "$1"
    python3 - "$1" "$2" "${3:-0}" "${4:-8}" <<'END'
import os, sys
place, (rows, first, blocks) = sys.argv[1], map(int, sys.argv[2:])
head = b'GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xfe\x08'
tail = (b'\xff' + b'scan' * 63 + b'...') * blocks + b'\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;'
with open(f'{place}/list.manifest.csv', 'a' if first else 'w') as list:
    if not first:
        list.write('profile_id,reference,category,document_type,path\n')
    for row in range(first, rows):
        os.makedirs(f'{place}/{row // 1000}', exist_ok=True) if row % 1000 == 0 or row == first else None
        path = f'{row // 1000}/{row}.gif'
        file = os.open(f'{place}/{path}', os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, head + b'%08d' % row + tail)
        os.close(file)
        list.write(f'a2c4393a-e219-47a4-8ab4-{row // 10:012x},K-{row},PROOF_OF_IDENTITY,PASSPORT,{path}\n')
END
}
