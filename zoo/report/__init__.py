"""What is shown of measured weights: model cards, the leaderboard, and what figures mean.

All of it is made from the records of a weights folder: nothing here measures or trains.
"""
