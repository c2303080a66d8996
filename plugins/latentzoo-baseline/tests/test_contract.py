from zoo.testing import contract

test_contract = contract("latentzoo-baseline", in_full=["pca.mnist"])
