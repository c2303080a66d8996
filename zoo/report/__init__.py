"""Model cards, the leaderboard, and the meaning of figures.

All of it is made from the records of a weights folder: nothing here measures or trains.
"""
