"""The boards, in the order in which one looks: is it well, where does the time go, what is full, who leaves."""

from dashboards.board import Board
from dashboards.boards import answers, clients, overview, phases, providers, runtime, saturation

BOARDS: tuple[Board, ...] = (
    overview.BOARD,
    phases.BOARD,
    saturation.BOARD,
    clients.BOARD,
    providers.BOARD,
    answers.BOARD,
    runtime.BOARD,
)
