"""Time, energy, carbon and money of a number of operations on some devices."""

from dataclasses import dataclass

from lyceum.core.errors import ConfigError
from lyceum.plan.hardware import Hardware

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What turns device time into energy, carbon and money; say your own where you know them."""

    # what a data centre draws over what its computers do: the average of Uptime Institute's survey of 2023; at home 1.0
    pue: float = 1.58
    # of electricity, the world's average in 2023: Ember, Global Electricity Review 2024
    kg_co2_per_kwh: float = 0.48
    money_per_device_hour: float | None = None  # in any currency; None: not asked

    def __post_init__(self) -> None:
        if self.pue < 1 or self.kg_co2_per_kwh < 0 or (self.money_per_device_hour or 0) < 0:
            raise ConfigError(
                f"rates have pue={self.pue}, kg_co2_per_kwh={self.kg_co2_per_kwh}, "
                f"money_per_device_hour={self.money_per_device_hour}; pue must be 1 or more, the others 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What it takes."""

    seconds: float  # on the clock
    device_hours: float
    kwh: float
    kg_co2: float
    money: float | None  # None when no rate was given

    @property
    def days(self) -> float:
        """On the clock."""
        return self.seconds / 86_400


def cost_of_flops(
    flops: float, *, hardware: Hardware, utilisation: float, devices: int = 1, rates: Rates | None = None
) -> Cost:
    """The cost of so many operations at a share `utilisation` of the devices' peak."""
    if not 0 < utilisation <= 1:
        raise ConfigError(f"utilisation is {utilisation}; it must be above 0 and at most 1, 0.4 is usual on a GPU")
    if devices < 1:
        raise ConfigError(f"devices is {devices}; it must be at least 1")
    seconds = flops / (hardware.peak_flops * utilisation * devices)
    return cost_of_time(seconds, hardware=hardware, devices=devices, rates=rates)


def cost_of_time(seconds: float, *, hardware: Hardware, devices: int = 1, rates: Rates | None = None) -> Cost:
    """The cost of using the devices for a time, at their listed power: idle time and other machines are not counted."""
    rates = rates or Rates()
    hours = seconds * devices / 3600
    kwh = hardware.watts * seconds * devices / JOULES_PER_KWH * rates.pue
    return Cost(
        seconds=seconds,
        device_hours=hours,
        kwh=kwh,
        kg_co2=kwh * rates.kg_co2_per_kwh,
        money=None if rates.money_per_device_hour is None else hours * rates.money_per_device_hour,
    )
