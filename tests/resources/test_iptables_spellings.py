"""Every spelling of a rule: applied once, then found in the desired state; the boot file gives the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from netfilter_tools import Net, namespace, rules

from agent.resources.iptables import Iptables

BOTH = [
    "-p tcp --dport http -j ACCEPT",
    "-p tcp --dport 80 -j ACCEPT",
    "--protocol tcp --destination-port 80:90 --jump ACCEPT",
    "-p 6 --dport 1024: -j ACCEPT",
    "-p tcp --sport :1023 -j REJECT",
    "-p tcp ! --dport 22 -j DROP",
    "-p tcp --syn -j ACCEPT",
    "-p tcp ! --syn -m state --state NEW -j DROP",
    "-p tcp --tcp-flags SYN,FIN SYN,FIN -j DROP",
    "-p tcp --tcp-flags ALL NONE -j DROP",
    "-p tcp -m tcp --tcp-option 7 -j DROP",
    "-m state --state NEW -p tcp --dport 25 -j ACCEPT",
    "-m state --state established,related -j ACCEPT",
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-m conntrack --ctstate INVALID -j DROP",
    "-m conntrack ! --ctstate NEW --ctdir ORIGINAL -j ACCEPT",
    "-p tcp -m multiport --dports 993,25,smtps,imap2 -j ACCEPT",
    "-p tcp -m multiport --dports 1000:2000,25 -j ACCEPT",
    "-p udp -m multiport --ports domain,ntp -j ACCEPT",
    "-j ACCEPT -p tcp --dport 8080 -m conntrack --ctstate NEW",
    "-p tcp -m conntrack --ctstate NEW -m tcp --dport 465 -j ACCEPT",
    '-p tcp --dport 993 -m comment --comment "IMAP, with \\"quotes\\" and more" -j ACCEPT',
    "-p tcp --dport 993 -m comment --comment plain -j ACCEPT",
    "-p tcp --dport 994 -m comment --comment 'as a \\ \"shell\" has it' -j ACCEPT",
    '-p tcp --dport 995 -m comment --comment "it\'s so" -j ACCEPT',
    "-m limit --limit 9/s -j LOG --log-prefix='dropped: '",
    "-i lo -j ACCEPT",
    "! -i lo -p udp --dport 53 -j DROP",
    "-i eth+ -j ACCEPT",
    "-i veryverylongdev -j ACCEPT",
    "-m limit --limit 3/minute -j LOG",
    "-m limit --limit 180/hour --limit-burst 5 -j ACCEPT",
    '-m limit --limit 10/s -j LOG --log-prefix "dropped: " --log-level info --log-uid',
    "-j LOG --log-level 4",
    "-j LOG --log-level debug --log-tcp-options --log-ip-options",
    "-j NFLOG --nflog-group 3 --nflog-prefix x",
    "-m mark --mark 0x10/0xff -j ACCEPT",
    "-m mark --mark 16 -j ACCEPT",
    "-m mark ! --mark 010 -j ACCEPT",
    "-m mac --mac-source 00:11:22:aa:BB:cc -j ACCEPT",
    "-m pkttype --pkt-type multicast -j DROP",
    "-p tcp --dport 22 -m recent --name ssh --set",
    "-p tcp --dport 22 -m recent --name ssh --update --seconds 60 --hitcount 4 -j DROP",
    "-p tcp --dport 25 -m connlimit --connlimit-above 10 -j REJECT",
    "-p tcp --dport 25 -m hashlimit --hashlimit-name smtp --hashlimit-upto 5/sec --hashlimit-mode srcip -j ACCEPT",
    "-m time --timestart 08:00 --timestop 18:30 --weekdays Mon,Tue -j ACCEPT",
    "-m length --length 0:100 -j ACCEPT",
    "-m statistic --mode random --probability 0.5 -j ACCEPT",
    "-m string --algo bm --string 'x-bad' -j DROP".replace("'", '"'),
    "-m addrtype --dst-type LOCAL -j ACCEPT",
    "-p udp --sport 67 --dport 68 -j ACCEPT",
    "-p sctp --dport 5060 -j ACCEPT",
    "-p esp -j ACCEPT",
    "-p 50 -j ACCEPT",
    "-p all -j RETURN",
    "-p tcp --dport 113 -j REJECT --reject-with tcp-reset",
    "-m cpu --cpu 0 -j ACCEPT",
    "-m dscp --dscp-class EF -j ACCEPT",
    "-p tcp -m tcpmss --mss 536:1460 -j ACCEPT",
    "-m set --match-set friends src -j ACCEPT",
    "-j others",
    "-p tcp -g others",
    "-4 -s 192.0.2.1 -j ACCEPT",
    "-6 -s 2001:db8::1 -j ACCEPT",
    "-c 5 500 -p tcp --dport 26 -j ACCEPT",
    "",
]
IPV4 = [
    "-s 10.0.0.1,10.0.0.2 -j ACCEPT",
    "-s 0/0 -j ACCEPT",
    "-s 0.0.0.0/0 -d 192.168.7.9/16 -j ACCEPT",
    "-s 10.1 -j ACCEPT",
    "-s 192.0.2.0/255.255.255.0 -j ACCEPT",
    "! -s 192.0.2.7 -j DROP",
    "-s localhost -j ACCEPT",
    "-p icmp -j ACCEPT",
    "-p icmp --icmp-type echo-request -j ACCEPT",
    "-p icmp --icmp-type ping -m limit --limit 1/s -j ACCEPT",
    "-p icmp --icmp-type 3/4 -j ACCEPT",
    "-p icmp -m icmp --icmp-type destination-unreachable -j ACCEPT",
    "-m iprange --src-range 10.0.0.5-10.0.0.9 -j ACCEPT",
    "-j REJECT",
    "-j REJECT --reject-with icmp-host-prohibited",
    "-f -j DROP",
    "-m ttl --ttl-lt 5 -j DROP",
    "-m addrtype --src-type BROADCAST -j DROP",
]
IPV6 = [
    "-s 2001:DB8:0:0::1 -j ACCEPT",
    "-s ::/0 -j ACCEPT",
    "-d fe80::/10 -p udp --dport dhcpv6-client -j ACCEPT",
    "-s 2001:db8::1,2001:db8::2 -j ACCEPT",
    "-p icmpv6 -j ACCEPT",
    "-p ipv6-icmp --icmpv6-type echo-request -j ACCEPT",
    "-p icmpv6 --icmpv6-type neighbour-solicitation -m hl --hl-eq 255 -j ACCEPT",
    "-p icmpv6 --icmpv6-type 133/0 -j ACCEPT",
    "-j REJECT",
    "-j REJECT --reject-with icmp6-adm-prohibited",
    "-m rt --rt-type 0 -j DROP",
    "-m frag --fragid 0 -j DROP",
]
OTHER = [
    ("nat", "PREROUTING", "ipv4", "-p tcp --dport 80 -j REDIRECT --to-ports 8080"),
    ("nat", "PREROUTING", "ipv4", "-p tcp --dport https -j DNAT --to 192.0.2.1:8443"),
    ("nat", "POSTROUTING", "both", "-o eth0 -j MASQUERADE"),
    ("nat", "POSTROUTING", "ipv4", "-s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1-192.0.2.9"),
    ("mangle", "FORWARD", "both", "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
    ("mangle", "OUTPUT", "both", "-p tcp --dport 22 -j DSCP --set-dscp 16"),
    ("mangle", "PREROUTING", "both", "-j MARK --set-mark 7"),
    ("mangle", "PREROUTING", "both", "-j CONNMARK --save-mark"),
    ("raw", "PREROUTING", "both", "-p udp --dport 53 -j CT --notrack"),
    ("raw", "PREROUTING", "both", "-m rpfilter --invert -j DROP"),
    ("raw", "OUTPUT", "both", "-p udp --sport 53 -j NOTRACK"),
    ("filter", "FORWARD", "both", "-i eth0 -o eth1 -m physdev --physdev-is-bridged -j ACCEPT"),
    ("filter", "OUTPUT", "both", "-m owner --uid-owner root -j ACCEPT"),
    ("filter", "OUTPUT", "both", "-m owner ! --uid-owner 1000-2000 -j REJECT"),
]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with namespace(tmp_path_factory.mktemp("net")) as net:
        net.run("ipset", "create", "friends", "hash:net")
        net.run("ipset", "create", "friends6", "hash:net", "family", "inet6")
        for program in ("iptables", "ip6tables"):
            net.run(program, "-N", "others")
        yield net


def declared(text: str, number: int, family: str = "both", **fields: str) -> Iptables:
    if "--match-set" in text:
        family = "ipv4"
    return rules(f"rule {number}", text or "-m comment --comment empty", family=family, **fields)


def test_every_spelling_is_found_again(net: Net, tmp_path: Path) -> None:
    everything = [
        *(declared(text, number) for number, text in enumerate(BOTH)),
        *(declared(text, number, "ipv4") for number, text in enumerate(IPV4, 100)),
        *(declared(text, number, "ipv6") for number, text in enumerate(IPV6, 200)),
        *(
            declared(text, number, family, table=table, chain=chain)
            for number, (table, chain, family, text) in enumerate(OTHER, 300)
        ),
    ]
    assert len(everything) > 100
    host = net.host(*everything)
    refused = {}
    for each in everything:
        try:
            each.desired(host)
        except Exception as error:  # noqa: BLE001
            refused[each.name] = f"{each.rules}: {error}"
    assert not refused
    assert len(net.apply(*everything)) == len(everything)
    assert not net.differing(*everything)
    before, before6 = net.saved(), net.saved(v6=True)
    boots(net, tmp_path, before, before6)
    net.run("bash", "-c", "echo > /dev/udp/127.0.0.1/9")
    assert not net.differing(*everything), "counters are no difference"


def boots(net: Net, tmp_path: Path, before: str, before6: str) -> None:
    """Loading what was saved for the boot gives the same rules, but for jumps to chains of others."""
    with namespace(tmp_path) as fresh:
        fresh.run("ipset", "restore", "-file", str(net.folder / "state/firewall.ipsets"))
        fresh.run("iptables-restore", "--noflush", "-w", "10", str(net.folder / "state/firewall.ipv4"))
        fresh.run("ip6tables-restore", "--noflush", "-w", "10", str(net.folder / "state/firewall.ipv6"))
        for expected, found in ((before, fresh.saved()), (before6, fresh.saved(v6=True))):
            lines = [line for line in expected.splitlines() if "others" not in line]
            assert sorted(lines) == sorted(found.splitlines())
