"""What this site did in each run: where it took part, and the answers it worked out, before anything was held back.

    runs.take_part(run, kind, digest, fingerprint)      # before anything is computed
    runs.store(run, digest, blob)            # after: the same request is not worked on again, also after a restart
    runs.keep_seal(run, seal)                # at a site that only validates: what it was opened for

`digest` is the SHA-256 of the request. On disk: `gate/trained/<run>/<kind>.<digest>`, which holds the study's
fingerprint, `gate/answers/<run>/<digest>.safetensors`, `gate/failed/<run>/<digest>.txt` and `gate/sealed/<run>.json`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedloupe.freezing import Seal
from fedloupe.messages import MessageRefused, decode
from fedloupe.signing import SignatureWrong
from fedloupe_client.gate.disk import gate_folder, write_atomic
from fedloupe_client.gate.errors import AnswerDamaged, SealDamaged


class Runs:
    """The site's memory of its runs.

    Args:
        home: the site's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def took_part(self, run: str) -> bool:
        """Whether the site's patients shaped anything in this run."""
        return bool(self._marks(run))

    def gave_to(self, run: str, fingerprints: Collection[str]) -> str | None:
        """A run in which the site's patients shaped something: this one, a fold of it, or any of these studies."""
        folder = self._home / "gate" / "trained"
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            name = path.name.replace("+", "/")
            marks = self._marks(name)
            if marks and name.split("/")[0] == run.split("/", maxsplit=1)[0]:
                return name
            if any((path / mark).read_text(encoding="ascii") in fingerprints for mark in marks):
                return name
        return None

    def contributions(self, run: str, kind: str) -> set[str]:
        """Digests of the different requests of this kind that the site agreed to work on in this run."""
        return {digest for found, _, digest in (mark.partition(".") for mark in self._marks(run)) if found == kind}

    def take_part(self, run: str, kind: str, digest: str, fingerprint: str) -> None:
        """Remember, before the work begins, that the site takes part."""
        path = gate_folder(self._home, "trained", _folder(run)) / f"{kind}.{digest}"
        if not path.exists():
            write_atomic(path, fingerprint.encode("ascii"))

    def judged(self, run: str, name: str, of: str) -> bool:
        """Remember of what a judgement was made in this run; False where it was made of something else before."""
        path = gate_folder(self._home, "judged", _folder(run)) / name
        if not path.exists():
            write_atomic(path, of.encode("ascii"))
        return path.read_text(encoding="ascii") == of

    def seal(self, run: str) -> Seal | None:
        """What the site was opened for in this run; None where it was not.

        Raises:
            SealDamaged: the file is no longer a seal that its coordinator signed.
        """
        path = self._seal_path(run)
        if not path.exists():
            return None
        try:
            seal = Seal.parse(path.read_bytes())
            seal.check()
        except (OSError, ValueError, SignatureWrong) as error:
            raise SealDamaged(
                f"not a signed seal: {type(error).__name__}",
                where=str(path),
                remedy="find out who changed it and restore it from a copy; until then this run is answered nothing",
            ) from None
        return seal

    def keep_seal(self, run: str, seal: Seal) -> None:
        """Keep it; the same again changes nothing."""
        if not self._seal_path(run).exists():
            gate_folder(self._home, "sealed")
            write_atomic(self._seal_path(run), seal.text.encode("ascii"))

    def _seal_path(self, run: str) -> Path:
        return self._home / "gate" / "sealed" / f"{_folder(run)}.json"

    def answer(self, run: str, digest: str) -> bytes | None:
        """The stored answer to this request.

        Raises:
            AnswerDamaged: the file is no longer a message.
        """
        path = self._answer_path(run, digest)
        if not path.exists():
            return None
        blob = path.read_bytes()
        try:
            decode(blob)
        except MessageRefused as error:
            raise AnswerDamaged(
                f"a stored answer does not decode: {error.what}",
                where=str(path),
                remedy="check the disk, then delete the file: the site will work on the request again, and spend again",
            ) from None
        return blob

    def store(self, run: str, digest: str, blob: bytes) -> None:
        """Keep the answer; whole or not at all."""
        gate_folder(self._home, "answers", _folder(run))
        write_atomic(self._answer_path(run, digest), blob)

    def failed(self, run: str, digest: str) -> Path | None:
        """The note that a paid request gave no answer; None where there is none."""
        path = self._failed_path(run, digest)
        return path if path.exists() else None

    def fail(self, run: str, digest: str, why: str) -> None:
        """Note that a paid request gave no answer; why stays here."""
        gate_folder(self._home, "failed", _folder(run))
        write_atomic(self._failed_path(run, digest), (why + "\n").encode())

    def _failed_path(self, run: str, digest: str) -> Path:
        return self._home / "gate" / "failed" / _folder(run) / f"{digest}.txt"

    def _answer_path(self, run: str, digest: str) -> Path:
        return self._home / "gate" / "answers" / _folder(run) / f"{digest}.safetensors"

    def _marks(self, run: str) -> list[str]:
        folder = self._home / "gate" / "trained" / _folder(run)
        return [p.name for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []


def _folder(run: str) -> str:
    # `+` cannot stand in a run's name, so two runs never share a folder, and no run is a folder inside another's.
    return run.replace("/", "+")
