from zoo.testing import contract

# Checks that train or start processes are quick with the small models of other plugins, not here.
test_contract = contract("latentzoo-conv", in_full=[])
