"""Many changes of packages carried out in as few transactions of apt as possible.

Every transaction is simulated first. Nothing is done that would remove a package which was not asked to go, or
change one that is on hold; a request that apt cannot carry out fails alone, and the others go on without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from agent.errors import CommandFailed, NotPermitted, ResourceError
from agent.host.apt.dpkg import Dpkg
from agent.host.apt.get import AptGet, Outcome
from agent.host.apt.lists import AptLists
from agent.host.apt.request import Request


class Transaction:
    """Carries requests out; `errors` holds what failed, by id."""

    def __init__(self, dpkg: Dpkg, done: set[str], requests: Sequence[Request]) -> None:
        self._dpkg = dpkg
        self._requests = requests
        self._apt = AptGet(dpkg.progress)
        self._lists = AptLists(dpkg, self._apt, done)
        self.errors: dict[str, Exception] = {}

    def carry_out(self) -> None:
        """Everything: lists, debconf answers, installations and removals, purges, holds."""
        try:
            if os.geteuid() != 0:
                raise NotPermitted("packages cannot be changed without root", hint="run it with sudo")
            self._apt.ready()
            self._dpkg.forget()
            self._lists.refresh([request for request in self._due() if not request.remove])
            self._refuse(self._lists.refusal)
            self._refuse(self._on_hold)
            batches = self._batches()
            for number, batch in enumerate(batches):
                self._carry_out_batch(batch + (self._removals() if number == 0 else []))
            if not batches:
                self._carry_out_batch(self._removals())
            self._purge()
            self._set_holds()
        except ResourceError as error:
            self.errors.update({request.id: error for request in self._alive()})

    def _alive(self) -> list[Request]:
        return [request for request in self._requests if request.id not in self.errors]

    def _due(self) -> list[Request]:
        """The requests that still have something to be done."""
        due = []
        for request in self._alive():
            try:
                if request.unmet():
                    due.append(request)
            except ResourceError as error:
                self.errors[request.id] = error
        return due

    def _removals(self) -> list[Request]:
        return [request for request in self._due() if request.remove]

    def _batches(self) -> list[list[Request]]:
        """The installations, put together where they can share one call of apt-get."""
        batches: dict[tuple[bool, str | None], list[Request]] = {}
        for request in self._due():
            if not request.remove:
                batches.setdefault((request.recommends, request.release), []).append(request)
        return list(batches.values())

    def _refuse(self, reason: Callable[[Request], ResourceError | None]) -> None:
        """Take requests out for which there is a reason."""
        for request in self._due():
            error = reason(request)
            if error is not None:
                self.errors[request.id] = error

    def _on_hold(self, request: Request) -> ResourceError | None:
        return None if request.may_change_held else on_hold(self._dpkg, request.unmet())

    # --- one call of apt-get -------------------------------------------------------------------------------------

    def _carry_out_batch(self, batch: list[Request]) -> None:
        batch = self._possible(batch)
        for request in [request for request in batch if request.answers]:
            try:
                self._apt.must(["debconf-set-selections"], stdin="\n".join(request.answers) + "\n", quiet=True)
            except CommandFailed as error:
                self.errors[request.id] = error
                batch.remove(request)
        if batch:
            outcome = self._apt.transact(self._words(batch))
            self._dpkg.forget()
            self._judge(batch, self._try_rest(batch, outcome))

    def _words(self, batch: Sequence[Request], *more: str) -> list[str]:
        """The arguments of the apt-get that carries a batch out."""
        first = next((request for request in batch if not request.remove), batch[0])
        words = ["-o", f"APT::Install-Recommends={'true' if first.recommends else 'false'}", *more]
        if first.release is not None:
            words += ["-t", first.release]
        if any(request.version for request in batch):
            words.append("--allow-downgrades")
        if any(request.may_change_held for request in batch):
            words.append("--allow-change-held-packages")
        return [*words, "install", *(word for request in batch for word in self._targets(request))]

    def _targets(self, request: Request) -> list[str]:
        if request.remove:
            return [f"{name}-" for name in request.unmet() if not self._dpkg.is_gone(name)]
        if request.version is None:
            return list(request.unmet())
        policies = self._dpkg.policies(request.unmet(), request.release)
        return [f"{name}={policies[name].choice(request.version)}" for name in request.unmet()]

    def _possible(self, batch: list[Request]) -> list[Request]:
        """Those requests that apt can carry out together without harm; found one by one where not all can."""
        batch = [request for request in batch if self._targets(request)]
        try:
            if batch:
                self._simulate(batch)
        except ResourceError as error:
            if len(batch) == 1:
                self.errors[batch[0].id] = error
                return []
            good: list[Request] = []
            for request in batch:
                try:
                    self._simulate([*good, request])
                except ResourceError as refusal:
                    self.errors[request.id] = refusal
                else:
                    good.append(request)
            return good
        return batch

    def _simulate(self, batch: list[Request]) -> None:
        """Raise ResourceError for what apt cannot do, and for what it would do without being asked."""
        steps = self._apt.simulate(self._words(batch))
        extra = sorted({name for verb, name in steps if verb != "Inst"} - self._may_go)
        if extra:
            raise ResourceError(
                f"apt would also remove {', '.join(extra)}",
                hint='nothing is removed without being asked: declare them with ensure = "absent" if they are to go',
            )
        free = {self._dpkg.plain(name) for request in batch if request.may_change_held for name in request.packages}
        held = sorted({name for _, name in steps if name not in free and self._dpkg.is_held(name)})
        if held:
            raise ResourceError(f"apt would also change {', '.join(held)}, which is on hold (apt-mark hold)")

    @cached_property
    def _may_go(self) -> set[str]:
        return {self._dpkg.plain(name) for request in self._requests if request.remove for name in request.packages}

    def _try_rest(self, batch: list[Request], outcome: Outcome) -> Outcome:
        """After a failure, once more without those whose packages failed; fresh lists help against a 404."""
        if outcome.result.ended_well:
            return outcome
        lost = "Failed to fetch" in outcome.result.stderr
        rest = [r for r in batch if r.unmet() and not any(name in outcome.failed for name in r.unmet())]
        if not rest or (len(rest) == len(batch) and not lost):
            return outcome
        if lost and not self._lists.fresh:
            self._lists.update()
        rest = self._possible(rest)
        if not rest:
            return outcome
        again = self._apt.transact(self._words(rest, "--fix-missing"))
        self._dpkg.forget()
        return Outcome(again.result if any(r.unmet() for r in rest) else outcome.result, again.failed | outcome.failed)

    def _judge(self, batch: list[Request], outcome: Outcome) -> None:
        """What is still not as it should be has failed, whatever apt's exit status says."""
        for request in batch:
            names = [name for name in request.unmet() if not (request.remove and self._dpkg.is_gone(name))]
            if not names or request.id in self.errors:
                continue
            names.sort(key=lambda name: name not in outcome.failed)
            own = [f"{name}: {outcome.failed[name]}" for name in names if name in outcome.failed]
            verb = "removed" if request.remove else "installed"
            self.errors[request.id] = ResourceError(
                own[0] if own else f"{', '.join(names)} could not be {verb}", detail=outcome.about(names[0])
            )

    # --- afterwards ----------------------------------------------------------------------------------------------

    def _purge(self) -> None:
        requests = [request for request in self._due() if request.purge]
        names = [name for request in requests for name in request.unmet() if self._dpkg.is_gone(name)]
        if names:
            outcome = self._apt.transact(["purge", *names])
            self._dpkg.forget()
            for request in [request for request in requests if request.unmet()]:
                text = f"{', '.join(request.unmet())} could not be purged"
                self.errors[request.id] = ResourceError(text, detail=outcome.about(request.unmet()[0]))

    def _set_holds(self) -> None:
        for hold, word in ((True, "hold"), (False, "unhold")):
            requests = [request for request in self._alive() if request.hold is hold]
            names = [name for request in requests for name in request.packages if self._dpkg.is_held(name) is not hold]
            if not names:
                continue
            try:
                self._apt.must(["apt-mark", word, *names])
            except ResourceError as error:
                self.errors.update({request.id: error for request in requests})
            self._dpkg.forget()


def on_hold(dpkg: Dpkg, names: Iterable[str]) -> ResourceError | None:
    """Why these packages are not changed, where one is on hold."""
    held = [name for name in names if dpkg.is_held(name)]
    if not held:
        return None
    hint = "declare hold = true or hold = false, and it may change"
    return ResourceError(f"{', '.join(held)} is on hold (apt-mark hold)", hint=hint)
