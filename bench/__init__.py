"""What gatewrit costs beside nft, ipset and firewalld: `make bench`. See README.md in this folder."""
