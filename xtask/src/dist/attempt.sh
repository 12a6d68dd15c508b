# Installs the packages in /root/packages on a fresh Debian, uses them as their users would, and removes them.
# Every line has to succeed (sh -e).
cd /root
say() { echo "-- $*"; }

say install
dpkg --install packages/*.deb
dpkg --verify hugebar libhugebar0 libhugebar-dev

say the command
hugebar --version
hugebar plan 4G
hugebar run -- true
hugebar run -- grep -q /usr/lib/hugebar/libhugebar_preload.so /proc/self/maps

say manual pages
pages=$(dpkg --listfiles hugebar | grep '/man8/.*\.gz$')
for page in $pages; do
    warnings=$(MANROFFSEQ= MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
    test -z "$warnings" || { echo "$page: $warnings"; exit 1; }
done
echo "$pages" | wc -l
man hugebar-plan | grep -q 'hugebar plan 128G'
whatis hugebar hugebar-map

say completions
bash -c '. /usr/share/bash-completion/bash_completion
    if type _comp_load >/dev/null 2>&1; then _comp_load hugebar; else _completion_loader hugebar; fi
    complete -p hugebar'
zsh -fc 'autoload -U compinit; compinit -u -D; test $_comps[hugebar] = _hugebar'
fish -c 'complete --do-complete "hugebar ma"' | grep -q '^map'

say the library
cat > main.c <<'C'
#include <hugebar.h>
#include <stdio.h>

int main(void) { return printf("%s\n", hugebar_version()) < 0; }
C
gcc $(pkg-config --cflags hugebar) main.c -o main $(pkg-config --libs hugebar)
./main
ldd main | grep 'libhugebar.so.0 => /'
gcc main.c -o static -Wl,-Bstatic -lhugebar -Wl,-Bdynamic $(pkg-config --static --libs-only-l hugebar | sed 's/-lhugebar//')
./static
for example in /usr/share/doc/libhugebar-dev/examples/*.c; do
    gcc -Wall -Werror -c "$example" -o /dev/null $(pkg-config --cflags hugebar)
done

say units
systemd-analyze verify --man=yes /usr/lib/systemd/system/hugebar-*.service /usr/lib/systemd/system/hugebar-*.timer

say lintian
lintian --allow-root --fail-on error,warning packages/*.deb

say remove
dpkg --purge hugebar libhugebar-dev libhugebar0
left=$(find / -xdev -name '*hugebar*' -not -path '/root/*' -not -path '/proc/*' -not -path '/var/cache/man/*')
test -z "$left" || { echo "left behind: $left"; exit 1; }
