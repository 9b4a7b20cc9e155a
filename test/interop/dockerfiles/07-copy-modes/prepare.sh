mkdir -p modes/closed modes/shared empty/er
for name in private setuid setgid all none; do echo $name > modes/$name; done
echo inside > modes/closed/inside
chmod 600 modes/private
chmod 4755 modes/setuid
chmod 2755 modes/setgid
chmod 777 modes/all
chmod 000 modes/none
chmod 700 modes/closed
chmod 3777 modes/shared
chown 1234:5678 modes/private
