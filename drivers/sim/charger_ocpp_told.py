"""What a central system tells a simulated charger to do, in the words of neither version."""

from drivers.sim.charger_ocpp_core import ACCEPTED, Charger
from drivers.sim.charger_ocpp_model import Outlet, Payload, Reservation
from drivers.sim.charger_ocpp_profiles import read_profile


def set_profile(charger: Charger, outlet: int, said: Payload) -> bool:
    """SetChargingProfile."""
    try:
        profile = read_profile(outlet, said)
    except (ValueError, KeyError):
        return False
    if profile.purpose == "TxProfile":
        running = charger.outlets[outlet - 1].transaction
        if running is None:
            return False
        ids = {running.id, charger.transaction_ids.get(running.number), None}
        if profile.transaction not in ids:
            return False
    charger.profiles.install(profile)
    charger.changed()
    charger.step()
    return True


def composite(charger: Charger, outlet: int, lasts_s: int, unit: str) -> list[tuple[int, float]]:
    """GetCompositeSchedule."""
    running = charger.outlets[outlet - 1].transaction if outlet else None
    started_us = None if running is None else running.start_us
    return charger.profiles.composite(outlet, charger.clock.now_us(), lasts_s, started_us, unit)


def remote_start(
    charger: Charger, number: int | None, tag: str, remote_id: int | None, profile: Payload | None
) -> Outlet | None:
    """The outlet that takes it; None: none can."""
    for outlet in charger.outlets if number is None else charger.outlets[number - 1 : number]:
        free = outlet.transaction is None and outlet.tag is None and outlet.operative and not outlet.fault
        if free and (outlet.reservation is None or outlet.reservation.tag == tag):
            try:
                if profile is not None:
                    read_profile(outlet.number, profile)
            except (ValueError, KeyError):
                return None
            charger.let_in(outlet, tag, remote_id, profile)
            charger.later(0, lambda: None)
            return outlet
    return None


def make_available(charger: Charger, number: int, *, operative: bool) -> str:
    """ChangeAvailability: Accepted, Scheduled, or Rejected for an outlet that is not there."""
    if number > len(charger.outlets):
        return "Rejected"
    answer = ACCEPTED
    for outlet in charger.outlets if number == 0 else [charger.outlets[number - 1]]:
        if outlet.transaction is not None and not operative:
            outlet.scheduled, answer = operative, "Scheduled"
        else:
            outlet.operative, outlet.scheduled = operative, None
    charger.changed()
    return answer


def reserve(charger: Charger, number: int, reservation: Reservation) -> str:
    """ReserveNow."""
    if not 0 < number <= len(charger.outlets):
        return "Rejected"
    outlet = charger.outlets[number - 1]
    same = outlet.reservation is None or outlet.reservation.id == reservation.id
    if outlet.fault:
        return "Faulted"
    if not outlet.operative:
        return "Unavailable"
    if outlet.transaction is not None or outlet.plugged or not same:
        return "Occupied"
    outlet.reservation = reservation
    return ACCEPTED


def cancel_reservation(charger: Charger, number: int) -> bool:
    """CancelReservation, by its id."""
    for outlet in charger.outlets:
        if outlet.reservation is not None and outlet.reservation.id == number:
            outlet.reservation = None
            return True
    return False
