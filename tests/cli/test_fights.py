"""Two declarations that fight over one thing: told before anything is touched, however they are spelled."""

from __future__ import annotations

import pytest
from sitefolder import SiteFolder


def messages(site: SiteFolder, content: str) -> list[str]:
    """What is wrong with a site of this content."""
    site.write("site.toml", content)
    return [f"{each['line']}: {each['message']}" for each in site.wrong()]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            '[apt.sl]\n[apt.toys]\npackages = ["cowsay", "sl"]\nensure = "purged"\n',
            "2: the package sl is removed here, and is installed by apt:sl at site.toml:1",
        ),
        (
            '[apt.sl]\nhold = true\n[apt.toys]\npackages = ["sl"]\nhold = false\n',
            "3: the hold of the package sl is released here, and is kept by apt:sl at site.toml:1",
        ),
        (
            "[user.a]\nuid = 5001\n[user.b]\nuid = 5001\n",
            "3: the uid 5001 is given to b here, and is given to a by user:a at site.toml:1",
        ),
        (
            "[group.a]\ngid = 5001\n[group.b]\ngid = 5001\n",
            "3: the gid 5001 is given to b here, and is given to a by group:a at site.toml:1",
        ),
        (
            '[iptables.a]\nchain = "INPUT"\npolicy = "DROP"\nfamily = "ipv6"\n'
            '[iptables.b]\nchain = "INPUT"\npolicy = "ACCEPT"\n',
            "5: the ipv6 policy of filter/INPUT is ACCEPT here, and is DROP by iptables:a at site.toml:1",
        ),
        (
            '[secrets.k]\nfile = "k"\n[gocryptfs."/a"]\ncipher = "/c/"\npassphrase = "{{ secrets.k }}"\n'
            '[gocryptfs."/b"]\ncipher = "/c"\npassphrase = "{{ secrets.k }}"\n',
            "6: the cipher directory /c is mounted at /b here, and is mounted at /a by gocryptfs:/a at site.toml:3",
        ),
        (
            '[postgres_rows."d.s.t+one"]\nkey = ["a"]\nexclusive = true\n[postgres_rows."d.s.t"]\nkey = ["a"]\n',
            "4: the rows of d.s.t are declared without exclusive here, and are declared exclusively as d.s.t+one by "
            "postgres_rows:d.s.t+one at site.toml:1",
        ),
        (
            '[postgres_rows."d.s.t+one"]\nkey = ["a"]\nexclusive = true\n'
            '[postgres_rows."d.s.t"]\nkey = ["a"]\nexclusive = true\n',
            "4: the rows of d.s.t are declared exclusively as d.s.t here, and are declared exclusively as d.s.t+one by "
            "postgres_rows:d.s.t+one at site.toml:1",
        ),
    ],
)
def test_contradictions(site: SiteFolder, content: str, told: str) -> None:
    assert messages(site, content) == [told]


def test_what_does_not_contradict(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[apt.sl]\nversion = ">=5"\n[apt.toys]\npackages = ["sl", "sl"]\nensure = "latest"\n'
        '[apt.ed]\nensure = "absent"\n[apt.old]\npackages = ["ed"]\nensure = "purged"\n'
        "[user.a]\nuid = 5001\n[group.a]\ngid = 5001\n"
        '[postgres_rows."d.s.t"]\nkey = ["a"]\n[postgres_rows."d.s.t+gone"]\nkey = ["a"]\n'
        '[postgres_rows."d.s.u"]\nkey = ["a"]\nexclusive = true\n'
        '[postgres_rows."d.s.u+gone"]\nkey = ["a"]\nensure = "absent"\n',
    )
    site.valid()


def test_one_path_through_a_declared_link(site: SiteFolder) -> None:
    content = (
        '[link."HOST/one"]\ntarget = "two"\n[link."HOST/two"]\ntarget = "HOST/./x/../real"\n[directory."HOST/real"]\n'
        '[file."HOST/one/file"]\ncontent = "1"\n[file."HOST/real/file"]\ncontent = "2"\n'
        '[block."HOST/two/file#label"]\ncontent = "3"\n'
    )
    told = messages(site, content)
    host = site.host
    assert told == [
        f"8: {host}/real/file is declared twice; the first is file:{host}/one/file at site.toml:6",
        f"10: file:{host}/one/file at site.toml:6 declares the whole content of {host}/real/file",
    ]


def test_links_in_a_circle_are_no_trouble(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[link."HOST/a"]\ntarget = "b"\n[link."HOST/b"]\ntarget = "a"\n[link."HOST/c"]\ntarget = "c"\n'
        '[file."HOST/a/file"]\ncontent = ""\n[file."HOST/c/c/file"]\ncontent = ""\n',
    )
    site.valid()


def test_purge_keeps_what_is_declared_through_a_link(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[directory."HOST/real"]\npurge = true\n[link."HOST/link"]\ntarget = "real"\n'
        '[file."HOST/link/kept"]\ncontent = "kept"\n'
        '[directory."HOST/link/sub"]\npurge = true\n[file."HOST/real/sub/kept"]\ncontent = "kept"\n',
    )
    assert site.run("apply").code == 0
    (site.host / "real/sub/stray").touch()
    (site.host / "real/stray").touch()
    assert site.run("apply").code == 0
    found = sorted(str(path.relative_to(site.host)) for path in (site.host / "real").rglob("*"))
    assert found == ["real/kept", "real/sub", "real/sub/kept"]
    assert site.run("apply", "--check").code == 0


def test_what_lies_below_a_link_comes_after_what_the_link_points_to(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        '[file."HOST/one/file"]\ncontent = "x"\n[link."HOST/one"]\ntarget = "two"\n'
        '[link."HOST/two"]\ntarget = "./real/"\n[directory."HOST/real"]\n',
    )
    needed = site.shown().resource(f"file:{site.host}/one/file")["implied_requires"]
    assert needed == [f"link:{site.host}/one", f"link:{site.host}/two", f"directory:{site.host}/real"]
    assert site.shown().resource(f"link:{site.host}/one")["implied_requires"] == []
    result = site.run("apply")
    assert result.code == 0, result.text
    assert (site.host / "real/file").read_text() == "x"
