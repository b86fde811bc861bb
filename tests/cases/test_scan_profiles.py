"""A scan that meets the golden device of a profile never names another model for it."""

from collections import Counter

from agent.yamlfile import load_yaml
from drivers.codec.registers_pack import Span
from drivers.modbus.scan_ask import Answer, Refused
from drivers.modbus.scan_frames import Question
from drivers.modbus.scan_match import Model, fitting, guess_questions, guesses, match_questions
from tests.cases.test_modbus_profiles import CASES, GoldenCase, Image, RefusedError, modbus_profiles

#: As ``drivers/modbus/scan.py`` has it: so much evidence for one profile alone is taken for the truth.
SURE = 3


def _named(models: list[Model], image: Image) -> tuple[str, list[str]]:
    """The model that would be proposed for this device, and those that would be listed."""
    answers: dict[Question, Answer] = {}
    for questions in (match_questions, guess_questions):
        for question in questions(models, answers):
            try:
                answers[question] = tuple(image.words(Span(question.table, question.address, question.count)))
            except RefusedError:
                answers[question] = Refused(2)
        fit = [model.profile.name for model in fitting(models, answers)]
        if fit:
            return fit[0], fit
    found = guesses(models, answers)
    names = [guess.name for guess in found]
    return (names[0] if len(found) == 1 and found[0].evidence >= SURE else ""), names


def test_no_device_is_taken_for_another_and_most_are_told() -> None:
    models = [Model(one.profile, one.file.maker) for one in modbus_profiles().values()]
    wrong, told = [], Counter[str]()
    for path in sorted(CASES.glob("*.yaml")):
        name, listed = _named(models, Image(load_yaml(path, GoldenCase).registers))
        if name not in {"", path.stem}:
            wrong.append(f"{path.stem} is taken for {name}")
        told["named" if name else "listed" if path.stem in listed else "unknown"] += 1
    assert wrong == []
    assert told["named"] + told["listed"] >= told.total() * 3 // 4, told
