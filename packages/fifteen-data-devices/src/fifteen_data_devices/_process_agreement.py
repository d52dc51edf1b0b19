import json
import logging
import time
from collections.abc import Sequence
from typing import Any

_WAIT_SECONDS = 300
"""How long to wait for the slowest process to load the same minibatch."""

_SLICE_SECONDS = 5
"""How long a Ctrl-C may take to be noticed meanwhile."""

_REFUSED = "refused: "

_LOGGER = logging.getLogger("fifteen_data_devices")


class ProcessAgreement:
    """Compares a text between processes that are at the same place of the same program.

    The first process collects the texts and publishes them, so that all go on or all raise: one
    that raised alone would leave the others hanging in a collective. The texts travel through the
    service that ``jax.distributed`` starts and not through the devices, whose collectives must be
    in the same order on every process and would get between those of the training step.

    A process only has something to say when the leaf shapes are new to it, so that steps cost
    nothing otherwise. If they are new to it alone, the others do not listen: they go on, wait for
    it in the step's collective, and it raises an error once its patience has ended.
    """

    def __init__(self, name: str, processes: Sequence[int]) -> None:
        self._name = name
        self._processes = processes
        self._last_verdict: str | None = None

    def check(self, text: str, step: int) -> None:
        """Compare what the processes have to say about a step of an iteration.

        Raises:
            ValueError: on all processes, if they do not all say the same or one has refused.
            TimeoutError: if some have nothing to say, because they saw nothing new in this step.
        """
        client = _coordination_client()
        if client is None:
            return
        news = f"minibatch {step} of this iteration has new leaf shapes on this process ({text})"
        try:
            texts = self._exchange(client, text, step, news)
        except TimeoutError as error:
            raise TimeoutError(
                f"{news}, and for {_WAIT_SECONDS} s some other process of {self._processes} had "
                "none. Shapes may only change on all processes together; `padding_map` keeps them "
                "constant"
            ) from error
        refusals = [what.removeprefix(_REFUSED) for what in texts if what.startswith(_REFUSED)]
        if refusals:
            raise ValueError(
                f"another process refused minibatch {step} of this iteration: {refusals[0]}"
            )
        if len(texts) > 1:
            said = "; ".join(f"processes {who}: {what}" for what, who in texts.items())
            raise ValueError(
                f"minibatch {step} of this iteration differs between processes, whose leaves must "
                f"have the same shapes and dtypes: {said}. A short last minibatch is filled up by "
                "`padding_map` and left out by `drop_last=True`"
            )

    def refuse(self, reason: str, step: int = 0) -> None:
        """Let the other processes know that this one raises an error in this step."""
        client = _coordination_client()
        if client is not None:
            text = _REFUSED + reason
            client.key_value_set(self._key(step, _this_process()), text, allow_overwrite=True)
            if _this_process() == self._processes[0]:
                verdict = json.dumps({text: [_this_process()]})
                client.key_value_set(self._key(step, "verdict"), verdict, allow_overwrite=True)

    def _exchange(self, client: Any, text: str, step: int, news: str) -> dict[str, list[int]]:
        # Processes may well start at different times, but then they keep up with each other.
        complaint = news if step else None
        client.key_value_set(self._key(step, _this_process()), text)
        if _this_process() == self._processes[0]:
            self._collect(client, step, complaint)
        verdict = _wait_for(client, self._key(step, "verdict"), complaint)
        texts: dict[str, list[int]] = json.loads(verdict)
        return texts

    def _collect(self, client: Any, step: int, complaint: str | None) -> None:
        texts: dict[str, list[int]] = {}
        for process in self._processes:
            key = self._key(step, process)
            texts.setdefault(_wait_for(client, key, complaint), []).append(process)
            client.key_value_delete(key)
        client.key_value_set(self._key(step, "verdict"), json.dumps(texts))
        if self._last_verdict is not None:
            # All have come to this step, so all have read the verdict on an earlier one.
            client.key_value_delete(self._last_verdict)
        self._last_verdict = self._key(step, "verdict")

    def _key(self, step: int, leaf: int | str) -> str:
        return f"fifteen/sharding_map/{self._name}/{step}/{leaf}"


def _wait_for(client: Any, key: str, complaint: str | None) -> str:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            value: str = client.blocking_key_value_get(
                key, 1000 * min(_SLICE_SECONDS, _WAIT_SECONDS)
            )
        except Exception as error:
            # JAX has no public name for the type.
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            if complaint is not None:
                _LOGGER.warning("%s; waiting for the other processes to have them too", complaint)
                complaint = None
        else:
            return value
    raise TimeoutError


def _this_process() -> int:
    import jax

    return jax.process_index()


def _coordination_client() -> Any:
    """Returns the client of the coordination service, or ``None`` if there is no way to it.

    JAX has no public way to exchange a few bytes between processes without its devices. Other
    libraries reach for the same attribute; should it go away, what is lost is the comparison.
    """
    try:
        from jax._src import distributed

        return distributed.global_state.client
    except (ImportError, AttributeError):
        return None
