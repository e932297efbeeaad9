"""Secrets: declared by where they come from, inserted as they stand, shown nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitefolder import SiteFolder

CANARY = "c4n4ry-S3cret"


def everything(site: SiteFolder) -> str:
    """All that the agent keeps."""
    return "".join(path.read_bytes().decode(errors="replace") for path in site.state.rglob("*") if path.is_file())


def test_secrets_are_inserted_and_never_shown_nor_kept(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[site]
states = ["s", "packages"]
[values]
inherited = "<{{ secrets.from_file }}>"
[[values.accounts]]
name = "bob"
password = "{{ secrets.from_file }}"
[secrets.from_file]
file = "secrets/{{ 'canary' }}"
[secrets.made]
file = "HOST/made"
generate = 20
[secrets.credential]
credential = "cred"
[secrets.elsewhere]
file = "HOST/overridden"
[file."HOST/plain"]
content = "{{ secrets.from_file }}"
[file."HOST/credential"]
content = "{{ secrets.credential }}"
""",
        "secrets/canary": f"{CANARY}\n",
        "states/s/t": "x={{ secrets['from_file'] }};{{ inherited }};{% for a in accounts %}{{ a.password }}"
                      "{% endfor %};{{ [secrets.made][0] }}\n",
        "states/packages/state.toml": '[parameters.inherited]\ntype = "string"\n'
                                      '[apt.xx]\ndebconf = { "a/b" = "password {{ inherited }}" }\n',
        "states/s/state.toml": """
[secrets.elsewhere]
file = "/nowhere"
[parameters]
inherited = { type = "string" }
accounts = { type = "list", of = "table" }
[file."HOST/text"]
template = "t"
[file."HOST/{{ item.name }}"]
for_each = "{{ accounts }}"
content = "{{ item.password }} {{ secrets.elsewhere }}"
""",
    })  # fmt: skip
    (site.host / "overridden").write_text("also-" + CANARY)
    site.environ["CREDENTIALS_DIRECTORY"] = str(site.host)
    (site.host / "cred").write_text(CANARY + "-credential")
    fields = {row["id"]: row["fields"] for row in site.shown().json["resources"]}
    assert fields[f"file:{site.host}/text"]["content"] == ("x=(sensitive);<(sensitive)>;(sensitive);(sensitive)\n")
    assert fields["apt:xx"]["debconf"] == {"a/b": "password <(sensitive)>"}
    assert fields[f"file:{site.host}/bob"]["content"] == "(sensitive) (sensitive)"
    targets = [f"file:{site.host}/*"]
    runs = [site.run(*words) for words in (["validate"], ["show"], ["graph"], ["apply", "--check", "--json", *targets])]
    assert not (site.host / "made").exists(), "only an apply makes secrets"
    runs += [site.run(*words) for words in (["apply", "--json", *targets], ["show", "--json"], ["log", "1", "--json"])]
    assert [run.code for run in runs] == [0, 0, 0, 2, 0, 0, 0], runs[4].text
    made = (site.host / "made").read_text().strip()
    assert len(made) == 20
    assert (site.host / "text").read_text() == f"x={CANARY};<{CANARY}>;{CANARY};{made}\n"
    assert (site.host / "bob").read_text() == f"{CANARY} also-{CANARY}"
    assert (site.host / "credential").read_text() == CANARY + "-credential"
    for text in (*(run.text for run in runs), everything(site)):
        assert CANARY not in text
        assert made not in text


def test_nothing_but_inserting_can_be_done_to_a_secret(site: SiteFolder) -> None:
    refused = [
        "{{ secrets.k | upper }}", "{{ secrets.k ~ 'x' }}", "{{ secrets.k + 'x' }}", "{{ 'x' + secrets.k }}",
        "{{ secrets.k | length }}", "{{ secrets.k == 'a' }}", "{{ 'a' == secrets.k }}", "{{ 'a' in secrets.k }}",
        "{{ secrets.k[0] }}", "{{ secrets.k.upper() }}", "{{ 'y' if secrets.k else 'n' }}",
        "{{ '%s' | format(secrets.k) }}", "{{ 'x' ~ [secrets.k] }}", "{{ secrets.k | tojson }}",
        "{{ secrets.k.parts }}", "x {{ secrets.k * 2 }}", "{{ secrets.k | seconds }}",
        "{{ held | upper }}", "{{ {secrets.k: 1} }}",
        "x {{ [secrets.k] }}",
    ]  # fmt: skip
    allowed = ["{{ secrets.k }}", "<{{ secrets.k }}>", "{{ held }}{{ secrets.k }}", "{{ secrets.k | default('x') }}"]
    toml = '[values]\nheld = "{{ secrets.k }}"\n[secrets.k]\nfile = "k"\n'
    toml += "".join(f'[file."/tmp/f{i}"]\ncontent = """{text}"""\n' for i, text in enumerate([*refused, *allowed]))
    site.write("site.toml", toml)
    problems = site.wrong()
    assert [each["key"] for each in problems] == [f'file."/tmp/f{i}".content' for i in range(len(refused))]
    for problem in problems:
        refused_it = "the secret k can only be inserted as it stands" in problem["message"]
        assert refused_it or "cannot be worked out" in problem["message"], problem


def test_marks_of_secrets_in_templates_cannot_be_changed(site: SiteFolder) -> None:
    site.files({
        "site.toml": '[secrets.k]\nfile = "k"\n'
                     + "".join(f'[file."/tmp/{i}"]\ntemplate = "t{i}"\n' for i in range(2)),
        "t0": "{% filter upper %}{{ secrets.k }}{% endfilter %}",
        "t1": "{% set x %}{{ secrets.k }}{% endset %}{{ x[3:] }}{{ secrets.k }}",
    })  # fmt: skip
    assert [each["key"] for each in site.wrong()] == ['file."/tmp/0".template', 'file."/tmp/1".template']


def test_secrets_stand_only_where_nobody_sees_them(site: SiteFolder) -> None:
    site.write(
        "site.toml",
        """
[secrets.k]
file = "k"
[values]
list = ["{{ secrets.k }}"]
[command.a]
run = ["echo", "{{ secrets.k }}"]
env = { A = "{{ secrets.k }}", "{{ secrets.k }}" = "x" }
[file."/tmp/{{ secrets.k }}"]
content = "x"
[file."/tmp/mode"]
content = "x"
mode = "{{ secrets.k }}"
[file."/tmp/when"]
content = "x"
when = "{{ secrets.k }}"
[file."/tmp/each"]
content = "x"
for_each = "{{ secrets.k }}"
[file."/tmp/x{{ item }}"]
content = "x"
for_each = "{{ list }}"
[user.bob]
comment = "{{ secrets.k }}"
""",
    )
    told = {each["key"]: each["message"] for each in site.wrong()}
    assert set(told) == {
        "command.a.run[1]", 'command.a.env."{{ secrets.k }}"', 'file."/tmp/{{ secrets.k }}"', 'file."/tmp/mode".mode',
        'file."/tmp/when".when', 'file."/tmp/each".for_each', 'file."/tmp/x{{ item }}"', "user.bob.comment",
        "command.a.env.A",
    }  # fmt: skip


def test_declarations_of_secrets_that_are_wrong(site: SiteFolder) -> None:
    site.files({
        "site.toml": """
[site]
include = ["more.toml"]
states = ["s", "t"]
[secrets]
a = "x"
b = {}
c = { fiel = "x" }
d = { file = 3 }
e = { generate = 3, file = "x" }
f = { credential = "x", file = "y" }
g = { file = "{{ nope }}" }
h = { file = "x" }
"../i" = { generate = 32 }
j = { file = "" }
""",
        "more.toml": '[secrets.h]\nfile = "x"\n',
        "states/s/state.toml": '[secrets.h]\nfile = "z"\n[secrets.k]\nfile = "1"\n',
        "states/t/state.toml": '[secrets.k]\nfile = "2"\n',
    })  # fmt: skip
    told = {(each["file"], each["key"]): each for each in site.wrong()}
    assert set(told) == {
        *(("site.toml", f"secrets.{name}") for name in ("a", "b", "d", "e", "f", "g", "j", '"../i"')),
        ("site.toml", "secrets.c.fiel"), ("more.toml", "secrets.h"), ("states/t/state.toml", "secrets.k"),
    }  # fmt: skip
    assert told["site.toml", "secrets.c.fiel"]["hint"] == 'did you mean "file"?'


def test_a_secret_is_its_file_but_for_the_last_end_of_a_line(site: SiteFolder) -> None:
    site.write("site.toml", '[secrets.k]\nfile = "HOST/k"\n[file."HOST/f"]\ncontent = "{{ secrets.k }}"\n')
    for kept, value in ((b"a\r\nb\rc\r\n", b"a\r\nb\rc"), (b" a\n\n", b" a\n"), (b"a", b"a")):
        (site.host / "k").write_bytes(kept)
        assert site.run("apply").code == 0
        assert (site.host / "f").read_bytes() == value
    (site.host / "k").write_bytes(b"\xe4")
    error = site.run("apply", "--json").resource(f"file:{site.host}/f")["error"]
    assert error == f"the secret k cannot be read from {site.host}/k: it is not UTF-8"
