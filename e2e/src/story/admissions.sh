account=/var/run/secrets/kubernetes.io/serviceaccount
url="https://kubernetes.default.svc/api/v1/namespaces/$NAMESPACE/pods?pretty=false&dryRun=All"
trap 'exit 0' TERM
while :; do
  answer=$(curl --silent --show-error --max-time 30 --cacert "$account/ca.crt" --data "$POD" \
    --header "Authorization: Bearer $(cat "$account/token")" --header 'Content-Type: application/json' \
    --write-out ' %{http_code}' "$url" 2>&1)
  case "$answer" in
    *'"certmint.dev/injected":"true"'*' 201') echo injected ;;
    *' 201') echo 'passed over' ;;
    *) echo "$answer" | tr '\n' ' ' && echo ;;
  esac
done
