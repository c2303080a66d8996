from zoo.testing import contract

test_contract = contract("latentzoo-mae")
