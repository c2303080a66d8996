from zoo.testing import contract

# The checks that train or start processes are quick with the small models of other plugins; here they
# are slow.
test_contract = contract("latentzoo-conv", in_full=[])
