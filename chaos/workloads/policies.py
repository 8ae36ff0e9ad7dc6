"""Policies of few subjects are flipped, deleted and asked for, by all at once."""

from __future__ import annotations

from chaos.clients.site import Site

POLICIES = 2
"""Of each subject; their ids are shared too."""


async def flip(site: Site) -> None:
    """Change and ask; the policies of an era are removed after it."""
    subject = site.shared_name()
    while True:
        await site.pace()
        former, subject = subject, site.shared_name()
        if _era(former) != _era(subject):
            for id in _ids(former):
                await _delete(site, former, id)
        step = site.rng.random()
        if step < 0.5:
            await _check(site, subject)
        elif step < 0.9:
            await _set(site, subject, site.rng.choice(_ids(subject)))
        else:
            await _delete(site, subject, site.rng.choice(_ids(subject)))


def _era(subject: str) -> str:
    return subject.rpartition("-")[2]


def _ids(subject: str) -> list[str]:
    return [f"{subject}-{number}" for number in range(POLICIES)]


async def _set(site: Site, subject: str, id: str) -> None:
    effect = site.rng.choice(("ALLOW", "DENY"))
    with site.call("set", subject, effect=effect, id=id):
        await site.client.set_policy(id, subject, "do", "anything", effect)


async def _delete(site: Site, subject: str, id: str) -> None:
    with site.call("delete", subject, id=id):
        await site.client.delete_policy(id)


async def _check(site: Site, subject: str) -> None:
    with site.call("check", subject) as checked:
        result = await site.client.check_policy(subject, "do", "anything")
        checked.value = {"allowed": result.allowed}
