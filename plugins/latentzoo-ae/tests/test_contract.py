from zoo.testing import contract

test_contract = contract("latentzoo-ae", in_full=["ae.mnist"])
