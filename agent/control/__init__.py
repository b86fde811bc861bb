"""Acting on site: who may switch or limit a station, commands and their outcomes, schedules."""
