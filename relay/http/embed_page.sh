#!/bin/bash
# Write the C file behind page.h to stdout from an HTML page.  It may hold <style> and <script> elements without
# attributes, but no style= or on...= attributes: the policy allows what is in those elements, by hash, and no more.
set -euo pipefail
export LC_ALL=C

# 'sha256-...' of each element NAME of the page.
hashes()
{
	awk -v name="$1" -v RS='\0' '{
		while ((from = index($0, "<" name ">")) > 0) {
			$0 = substr($0, from + length(name) + 2)
			to = index($0, "</" name ">")
			if (to == 0) { print "unclosed <" name ">" > "/dev/stderr"; exit 1 }
			printf "%s%c", substr($0, 1, to - 1), 0
			$0 = substr($0, to)
		}
	}' "$2" | while IFS= read -r -d '' content; do
		sum=$(printf '%s' "$content" | sha256sum | cut -c 1-64)
		# shellcheck disable=SC2059
		printf " 'sha256-%s'" "$(printf "$(sed 's/../\\x&/g' <<<"$sum")" | base64 -w 0)"
	done
}

page=$1
scripts=$(hashes script "$page")
styles=$(hashes style "$page")
policy="default-src 'none'; script-src${scripts:- 'none'}; style-src${styles:- 'none'}; img-src data:; connect-src 'self'"
policy+="; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

echo '/* Written by embed_page.sh; do not edit. */'
echo '#include "http/page.h"'
echo
printf 'const char page_policy[] = "%s";\n\n' "$policy"
echo 'const char page_html[] = {'
# As characters: whether char has a sign is the compiler's affair.
od -An -v -tx1 "$page" | sed "s/ \(..\)/'\\\\x\1', /g; s/^/\t/; s/ $//"
echo '};'
echo
echo 'const size_t page_size = sizeof(page_html);'
