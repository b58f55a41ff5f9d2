"""Planning a round through all stops of a day."""


def plan(day, draw):
    """Give the order of the stops: always the nearest one next, then a few random swaps that help."""
    tour = nearest(day, draw.randrange(len(day)))
    for _ in range(400):
        i, j = sorted(draw.sample(range(len(tour)), 2))
        if swap_gain(day, tour, i, j) > 0:
            tour[i], tour[j] = tour[j], tour[i]
    return tour


def nearest(day, first):
    left = set(range(len(day))) - {first}
    tour = [first]
    while left:
        best = min(left, key=lambda stop: day.distance(tour[-1], stop))
        left.remove(best)
        tour.append(best)
    return tour


def swap_gain(day, tour, i, j):
    """How much shorter the round gets when the stops at i and j change places."""
    swapped = list(tour)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    touched = {(at + step) % len(tour) for at in (i, j) for step in (-1, 0)}
    return sum(_leg(day, tour, at) - _leg(day, swapped, at) for at in touched)


def _leg(day, tour, at):
    return day.distance(tour[at], tour[(at + 1) % len(tour)])
